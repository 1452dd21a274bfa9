#include "cached/requests/may_administer.h"

#include <unistd.h>

#include "cached/base/group.h"

namespace larder {

bool may_administer(const Peer& peer, const std::string& group) {
  if (peer.uid == 0 || peer.uid == ::geteuid()) return true;
  if (group.empty()) return false;
  const Result<gid_t> id = group_id(group);
  return id && peer.in_group(*id);
}

}  // namespace larder
