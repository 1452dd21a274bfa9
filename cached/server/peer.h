// Who is at the other end of a connection, as the kernel tells it: nothing that a client sends can change it.
#pragma once
#include <sys/types.h>

#include <optional>
#include <vector>

namespace larder {

struct Peer {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  // supplementary
  bool in_group(gid_t g) const;
};

// The process that connected, without its supplementary groups. Nothing: the kernel does not say.
std::optional<Peer> read_peer(int socket);
// Its supplementary groups; none if the kernel does not say.
std::vector<gid_t> read_peer_groups(int socket);

}  // namespace larder
