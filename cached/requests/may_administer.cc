#include "cached/requests/may_administer.h"

#include <grp.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <vector>

namespace larder {

static constexpr size_t kFirstBuffer = 64 * 1024;
static constexpr size_t kLargestBuffer = 64 * 1024 * 1024;  // a group's entry names all its members

static std::optional<gid_t> group_id(const std::string& name) {
  for (size_t size = kFirstBuffer; size <= kLargestBuffer; size *= 4) {
    std::vector<char> buffer(size);
    struct group entry, *found = nullptr;
    const int err = ::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
    if (found) return found->gr_gid;
    if (err != ERANGE) return std::nullopt;
  }
  return std::nullopt;
}

bool may_administer(const Peer& peer, const std::string& group) {
  if (peer.uid == 0 || peer.uid == ::geteuid()) return true;
  if (group.empty()) return false;
  const std::optional<gid_t> id = group_id(group);
  return id && peer.in_group(*id);
}

}  // namespace larder
