#include "cached/base/group.h"

#include <fmt/format.h>
#include <grp.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "cached/base/text.h"

namespace larder {

static constexpr size_t kFirstBuffer = 64 * 1024;
static constexpr size_t kLargestBuffer = 64 * 1024 * 1024;  // a group's entry names all its members

Result<gid_t> group_id(const std::string& name) {
  int err = ERANGE;
  for (size_t size = kFirstBuffer; err == ERANGE && size <= kLargestBuffer; size *= 4) {
    std::vector<char> buffer(size);
    struct group entry, *found = nullptr;
    err = ::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
    if (found) return found->gr_gid;
  }
  if (err == 0 || err == ENOENT || err == ESRCH)  // libraries differ in what they say of an absent name
    return make_error(ENOENT, fmt::format("there is no group \"{}\"; make it with groupadd", printable(name, 80)));
  return make_error(err, fmt::format("group \"{}\" cannot be looked up: {}", printable(name, 80), strerror(err)));
}

}  // namespace larder
