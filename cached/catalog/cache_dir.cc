#include "cached/catalog/cache_dir.h"

#include <fmt/format.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <functional>

#include "cached/base/files.h"
#include "cached/catalog/oid_name.h"
#include "larder/names.h"

namespace larder {

static constexpr size_t kPresenceBytes = 4096;

static FsSpace space_of(const struct statvfs& s) {
  return {uint64_t{s.f_blocks} * s.f_frsize, uint64_t{s.f_bavail} * s.f_frsize};
}

Result<FsSpace> fs_space(const std::string& path) {
  std::string at = path;
  struct statvfs s;
  while (::statvfs(at.c_str(), &s) != 0) {
    if (errno != ENOENT || at == "/") return os_error("cannot find the file system of " + path);
    size_t slash = at.rfind('/');
    at = slash == 0 || slash == at.npos ? "/" : at.substr(0, slash);
  }
  return space_of(s);
}

FsSpace fs_space(int fd) {
  struct statvfs s;
  return ::fstatvfs(fd, &s) == 0 ? space_of(s) : FsSpace{};
}

static uint64_t usage_below(int fd) {
  uint64_t sum = 0;
  (void)for_each_name(fd, [&](const char* name) {
    struct stat st;
    if (::fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) return;
    sum += static_cast<uint64_t>(st.st_blocks) * 512;
    if (!S_ISDIR(st.st_mode)) return;
    if (Result<Fd> sub = open_dir(fd, name)) sum += usage_below(sub->get());
  });
  return sum;
}

uint64_t disk_usage(const std::string& path) {
  Result<Fd> fd = open_dir(AT_FDCWD, path);
  return fd ? usage_below(fd->get()) : 0;
}

bool nobody_else_has(int fd) {
  if (::fcntl(fd, F_SETLEASE, F_WRLCK) != 0) return false;
  ::fcntl(fd, F_SETLEASE, F_UNLCK);
  return true;
}

Result<std::unique_ptr<CacheDir>> CacheDir::open(const std::string& path) {
  std::unique_ptr<CacheDir> dir(new CacheDir());
  if (Status s = dir->take(path); !s) return s.error();
  return dir;
}

CacheDir::~CacheDir() {
  if (created_ && !keep_ && lock_.valid()) remove_what_was_made();
}

Status CacheDir::take(const std::string& path) {
  path_ = path;
  size_t slash = path.rfind('/');
  if (slash != 0 && slash != path.npos)
    if (Status s = make_dirs(path.substr(0, slash), 0755); !s) return s;
  Result<Fd> dir = make_dir(AT_FDCWD, path, 0755, &created_);
  if (!dir) return make_error(dir.error().code, dir.error().message + "; choose another with --cache-dir");
  dir_ = std::move(*dir);
  if (Status s = check_owner(); !s) return s;
  if (Status s = lock(); !s) return s;
  return make_parts();
}

Status CacheDir::check_owner() {
  struct stat st;
  if (::fstat(dir_.get(), &st) != 0) return os_error("cannot stat " + path_);
  if (st.st_uid != ::geteuid())
    return make_error(
        EACCES, fmt::format("cache folder {} belongs to user {}; choose another with --cache-dir", path_, st.st_uid));
  if ((st.st_mode & 022) != 0)
    return make_error(
        EACCES, fmt::format("cache folder {} may be written by others; make it 0755 or choose another with --cache-dir",
                            path_));
  return {};
}

Status CacheDir::lock() {
  Fd fd(::openat(dir_.get(), kLockFile, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!fd.valid()) return os_error("cannot open " + path_ + "/lock");
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    char pid[32] = {};
    ssize_t n = ::pread(fd.get(), pid, sizeof pid - 1, 0);
    std::string_view text(pid, n > 0 ? static_cast<size_t>(n) : 0);
    while (!text.empty() && text.back() == '\n')
      text.remove_suffix(1);
    return make_error(
        EBUSY,
        fmt::format("cache folder {} is in use by larderd with pid {}; stop it, or choose another with --cache-dir",
                    path_, shown(text)));
  }
  std::string pid = fmt::format("{}\n", ::getpid());
  if (::ftruncate(fd.get(), 0) != 0) return os_error("cannot write " + path_ + "/lock");
  if (Status s = pwrite_all(fd.get(), pid.data(), pid.size(), 0); !s) return s;
  lock_ = std::move(fd);
  return {};
}

static Status assign(Result<Fd> from, Fd& to) {
  if (!from) return from.error();
  to = std::move(*from);
  return {};
}

// What a crash left in tmp/: files, and folders of one level.
static void remove_below(int fd) {
  (void)for_each_name(fd, [&](const char* name) {
    if (::unlinkat(fd, name, 0) == 0) return;
    if (Result<Fd> sub = open_dir(fd, name)) remove_below(sub->get());
    ::unlinkat(fd, name, AT_REMOVEDIR);
  });
}

Status CacheDir::make_parts() {
  if (Status s = assign(make_dir(dir_.get(), kUnfinishedFolder, 0700), tmp_); !s) return s;
  remove_below(tmp_.get());
  if (Result<Fd> probe = unnamed_file(tmp_.get()); !probe)
    return make_error(EOPNOTSUPP, fmt::format("cache folder {}: {}; choose one on tmpfs with --cache-dir", path_,
                                              probe.error().message));
  if (Status s = assign(make_dir(dir_.get(), kNamespaceFolder, 0755), namespace_); !s) return s;
  if (Status s = assign(make_dir(namespace_.get(), kMirrorFolder, 0755), namespace_mirrors_); !s) return s;
  handle_ = Fd(::open(path_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!handle_.valid()) return os_error("cannot open " + path_);
  Fd presence(::openat(dir_.get(), kPresenceFile, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!presence.valid() || ::fchmod(presence.get(), 0644) != 0) return os_error("cannot make " + path_ + "/presence");
  if (Status s = pwrite_all(presence.get(), std::string(kPresenceBytes, '\0').data(), kPresenceBytes, 0); !s) return s;
  presence_ = Fd(::openat(dir_.get(), kPresenceFile, O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!presence_.valid()) return os_error("cannot open " + path_ + "/presence");
  return open_control();
}

bool CacheDir::control_is_good(int fd) const {
  struct stat st, dir;
  if (::fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size != sizeof(Control)) return false;
  if (::fstat(dir_.get(), &dir) != 0) return false;
  Result<Mapping> map = Mapping::map(fd, sizeof(Control), false);
  if (!map) return false;
  auto* c = static_cast<const Control*>(map->data());
  return c->magic == kControlMagic && c->format == kControlFormat && c->bytes == sizeof(Control) && c->instance != 0 &&
         c->cache_dev == dir.st_dev && c->mount_count <= kMaxMounts;
}

Status CacheDir::open_control() {
  Fd fd(::openat(dir_.get(), kControlFile, O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid() || !control_is_good(fd.get())) {
    if (Status s = new_control(); !s) return s;
    fd = Fd(::openat(dir_.get(), kControlFile, O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  }
  if (!fd.valid()) return os_error("cannot open " + path_ + "/control");
  Result<Mapping> map = Mapping::map(fd.get(), sizeof(Control), true);
  if (!map) return map.error();
  control_ = std::move(*map);
  return {};
}

Status CacheDir::new_control() {
  auto fresh = std::make_unique<Control>();
  struct stat dir;
  if (::fstat(dir_.get(), &dir) != 0) return os_error("cannot stat " + path_);
  fresh->magic = kControlMagic;
  fresh->format = kControlFormat;
  fresh->bytes = sizeof(Control);
  fresh->cache_dev = dir.st_dev;
  while (fresh->instance == 0)
    if (::getrandom(&fresh->instance, sizeof fresh->instance, 0) < 0) return os_error("cannot get random bytes");
  Result<Fd> fd = unnamed_file(tmp_.get());
  if (!fd) return fd.error();
  if (Status s = pwrite_all(fd->get(), fresh.get(), sizeof(Control), 0); !s) return s;
  if (::fchmod(fd->get(), 0644) != 0) return os_error("cannot set the mode of control");
  return link_file_over(fd->get(), tmp_.get(), dir_.get(), kControlFile);
}

uint64_t CacheDir::used_by_tables() const {
  return on_disk(sizeof(Control)) + kPresenceBytes + 4096;
}

bool CacheDir::program_present() const {
  return !nobody_else_has(presence_.get());
}

std::vector<uint64_t> CacheDir::dataset_folders() const {
  std::vector<uint64_t> ids;
  (void)for_each_name(dir_.get(), [&](const char* name) {
    uint64_t id = 0;
    if (parse_hex(name, 16, &id) && id != 0) ids.push_back(id);
  });
  return ids;
}

std::vector<std::string> CacheDir::unknown_names() const {
  std::vector<std::string> names;
  (void)for_each_name(dir_.get(), [&](const char* c) {
    std::string_view name = c;
    uint64_t id = 0;
    bool known = name == kLockFile || name == kControlFile || name == kPresenceFile || name == kUnfinishedFolder ||
                 name == kNamespaceFolder || parse_hex(name, 16, &id) || parse_numbered(name, kInodeTablePrefix, &id);
    if (!known) names.emplace_back(name);
  });
  return names;
}

// Only what this daemon made in an empty folder: no dataset was ever in it.
void CacheDir::remove_what_was_made() {
  if (!dataset_folders().empty()) return;
  (void)for_each_name(dir_.get(), [&](const char* name) {
    std::string_view n = name;
    if (n == kLockFile || n == kControlFile || n == kPresenceFile || n.starts_with(kInodeTablePrefix))
      ::unlinkat(dir_.get(), name, 0);
  });
  (void)for_each_name(namespace_.get(), [&](const char* name) { ::unlinkat(namespace_.get(), name, 0); });
  ::unlinkat(namespace_.get(), kMirrorFolder, AT_REMOVEDIR);
  ::unlinkat(dir_.get(), kNamespaceFolder, AT_REMOVEDIR);
  ::unlinkat(dir_.get(), kUnfinishedFolder, AT_REMOVEDIR);
  ::rmdir(path_.c_str());
}

}  // namespace larder
