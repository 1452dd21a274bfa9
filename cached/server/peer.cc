#include "cached/server/peer.h"

#include <sys/socket.h>

#include <algorithm>

namespace larder {

bool Peer::in_group(gid_t g) const {
  return gid == g || std::find(groups.begin(), groups.end(), g) != groups.end();
}

std::optional<Peer> read_peer(int socket) {
  struct ucred cred;
  socklen_t len = sizeof cred;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0) return std::nullopt;
  return Peer{cred.pid, cred.uid, cred.gid, {}};
}

std::vector<gid_t> read_peer_groups(int socket) {
  std::vector<gid_t> groups;
  socklen_t len = 0;
  ::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, nullptr, &len);
  if (len == 0) return groups;
  groups.resize(len / sizeof(gid_t));
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &len) != 0) len = 0;
  groups.resize(len / sizeof(gid_t));
  return groups;
}

}  // namespace larder
