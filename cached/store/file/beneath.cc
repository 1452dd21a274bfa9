#include "cached/store/file/beneath.h"

#include <fmt/format.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "cached/base/text.h"

namespace larder {
namespace {

constexpr size_t kMaxPath = 4000;  // below PATH_MAX: longer keys are opened in steps
constexpr int kDirectory = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

// The whole way in one call; -1 where the kernel (before 5.6), a sandbox or the path's length does not allow it.
int open_at_once(int root, const std::string& path) {
  open_how how{};
  how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
  return static_cast<int>(syscall(SYS_openat2, root, path.c_str(), &how, sizeof how));
}

Error no_directory(std::string_view path) {
  return make_error(ENOTDIR, fmt::format("'{}' is a file or a symbolic link, and a directory is needed there",
                                         printable(path, 1200)));
}

Result<Fd> step(int at, const std::string& name, std::string_view path_so_far, bool make) {
  int fd = openat(at, name.c_str(), kDirectory);
  if (fd < 0 && errno == ENOENT && make) {
    if (mkdirat(at, name.c_str(), 0777) != 0 && errno != EEXIST)
      return os_error(fmt::format("cannot make the directory '{}'", printable(path_so_far, 1200)));
    fd = openat(at, name.c_str(), kDirectory);
  }
  if (fd >= 0) return Fd(fd);
  if (errno == ENOTDIR || errno == ELOOP) return no_directory(path_so_far);
  return os_error(fmt::format("cannot open the directory '{}'", printable(path_so_far, 1200)));
}

}  // namespace

Fd open_below(const std::string& directory, std::string_view key, int flags) {
  Fd at(open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  while (at.valid() && key.size() > kMaxPath) {
    const size_t slash = key.rfind('/', kMaxPath);
    if (slash == std::string_view::npos) break;
    at = Fd(openat(at.get(), std::string(key.substr(0, slash)).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    key.remove_prefix(slash + 1);
  }
  if (!at.valid()) return at;
  return Fd(openat(at.get(), std::string(key).c_str(), flags | O_CLOEXEC));
}

bool plain_key(std::string_view key) {
  if (key.empty() || key.front() == '/' || key.back() == '/' || key.find('\0') != std::string_view::npos) return false;
  while (!key.empty()) {
    const std::string_view part = key.substr(0, key.find('/'));
    if (part.empty() || part == "." || part == "..") return false;
    key.remove_prefix(std::min(part.size() + 1, key.size()));
  }
  return true;
}

std::string_view parent_of(std::string_view key) {
  const size_t slash = key.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : key.substr(0, slash);
}

std::string_view name_of(std::string_view key) {
  return key.substr(key.rfind('/') + 1);
}

Result<Fd> directory_beneath(int root, std::string_view path, bool make) {
  if (path.empty()) {
    Fd copy(fcntl(root, F_DUPFD_CLOEXEC, 0));
    return copy.valid() ? Result<Fd>(std::move(copy)) : Result<Fd>(os_error("cannot copy a descriptor"));
  }
  if (int fd = open_at_once(root, std::string(path)); fd >= 0) return Fd(fd);
  Fd at;
  for (size_t end = 0; end < path.size();) {
    const size_t begin = end == 0 ? 0 : end + 1;
    end = std::min(path.find('/', begin), path.size());
    auto next =
        step(at.valid() ? at.get() : root, std::string(path.substr(begin, end - begin)), path.substr(0, end), make);
    if (!next.ok()) return next;
    at = std::move(*next);
  }
  return at;
}

std::string path_of(const Fd& file) {
  char out[PATH_MAX];
  const ssize_t size = readlink(fmt::format("/proc/self/fd/{}", file.get()).c_str(), out, sizeof out);
  struct stat st {};
  const bool named = size > 0 && size < PATH_MAX && out[0] == '/' && fstat(file.get(), &st) == 0 && st.st_nlink > 0;
  return named ? std::string(out, static_cast<size_t>(size)) : std::string();
}

bool is_below(const Fd& file, std::string_view directory) {
  const std::string path = path_of(file);
  if (path.empty() || directory.empty() || !path.starts_with(directory)) return false;
  return directory == "/" || path.size() == directory.size() || path[directory.size()] == '/';
}

}  // namespace larder
