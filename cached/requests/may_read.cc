#include "cached/requests/may_read.h"

#include <unistd.h>

namespace larder {

bool may_read(const Peer& peer, std::optional<gid_t> group) {
  return !group || peer.uid == 0 || peer.uid == ::geteuid() || peer.in_group(*group);
}

}  // namespace larder
