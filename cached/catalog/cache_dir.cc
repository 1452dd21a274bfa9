#include "cached/catalog/cache_dir.h"

#include <fmt/format.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <functional>
#include <tuple>

#include "cached/base/files.h"
#include "cached/catalog/oid_name.h"

namespace larder {

static constexpr size_t kPresenceBytes = 4096;

static FsSpace space_of(const struct statvfs& s) {
  const uint64_t inodes = s.f_files != 0 ? uint64_t{s.f_favail} : UINT64_MAX;  // 0: the file system counts none
  return {uint64_t{s.f_blocks} * s.f_frsize, uint64_t{s.f_bavail} * s.f_frsize, inodes};
}

FsSpace fs_space(int fd) {
  struct statvfs s;
  return ::fstatvfs(fd, &s) == 0 ? space_of(s) : FsSpace{};
}

uint64_t disk_usage(int folder) {
  uint64_t sum = 0;
  (void)for_each_name(folder, [&](const char* name) {
    struct stat st;
    if (::fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) != 0) return;
    sum += static_cast<uint64_t>(st.st_blocks) * 512;
    if (!S_ISDIR(st.st_mode)) return;
    if (Result<Fd> sub = open_dir(folder, name)) sum += disk_usage(sub->get());
  });
  return sum;
}

uint64_t disk_usage(const std::string& path) {
  Result<Fd> fd = open_dir(AT_FDCWD, path);
  return fd ? disk_usage(fd->get()) : 0;
}

bool nobody_else_has(int fd) {
  if (::fcntl(fd, F_SETLEASE, F_WRLCK) != 0) return false;
  ::fcntl(fd, F_SETLEASE, F_UNLCK);
  return true;
}

Result<std::unique_ptr<CacheDir>> CacheDir::open(Home home) {
  std::unique_ptr<CacheDir> dir(new CacheDir(std::move(home)));
  if (Status s = dir->take(); !s) return s.error();
  return dir;
}

CacheDir::~CacheDir() {
  if (!home_.was_there() && !keep_ && lock_.valid()) remove_what_was_made();
}

Status CacheDir::take() {
  if (Status s = lock(); !s) return s;
  return make_parts();
}

// Nobody else may open the lock: who has it open could hold it.
Status CacheDir::lock() {
  Fd file(::openat(fd(), kLockFile, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.valid() || ::fchmod(file.get(), 0600) != 0) return os_error("cannot open the lock of " + home_.name());
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    char pid[32] = {};
    ssize_t n = ::pread(file.get(), pid, sizeof pid - 1, 0);
    std::string_view text(pid, n > 0 ? static_cast<size_t>(n) : 0);
    while (!text.empty() && text.back() == '\n')
      text.remove_suffix(1);
    return make_error(
        EBUSY,
        fmt::format("cache folder {} is in use by larderd with pid {}; stop it, or choose another with --cache-dir",
                    home_.name(), shown(text)));
  }
  std::string pid = fmt::format("{}\n", ::getpid());
  if (::ftruncate(file.get(), 0) != 0) return os_error("cannot write the lock of " + home_.name());
  if (Status s = pwrite_all(file.get(), pid.data(), pid.size(), 0); !s) return s;
  lock_ = std::move(file);
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
  if (Status s = assign(make_dir(fd(), kUnfinishedFolder, 0700), tmp_); !s) return s;
  remove_below(tmp_.get());
  if (Result<Fd> probe = unnamed_file(tmp_.get()); !probe)
    return make_error(EOPNOTSUPP, fmt::format("cache folder {}: {}; choose one on tmpfs with --cache-dir", home_.name(),
                                              probe.error().message));
  if (Status s = assign(make_dir(fd(), kChunksFolder, 0755), chunks_); !s) return s;
  if (Status s = assign(make_dir(fd(), kNamespaceFolder, 0755), namespace_); !s) return s;
  if (Status s = assign(make_dir(namespace_.get(), kMirrorFolder, 0755), namespace_mirrors_); !s) return s;
  Fd presence(::openat(fd(), kPresenceFile, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!presence.valid() || ::fchmod(presence.get(), 0644) != 0)
    return os_error("cannot make the presence page of " + home_.name());
  if (Status s = pwrite_all(presence.get(), std::string(kPresenceBytes, '\0').data(), kPresenceBytes, 0); !s) return s;
  presence_ = Fd(::openat(fd(), kPresenceFile, O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!presence_.valid()) return os_error("cannot open the presence page of " + home_.name());
  return open_control();
}

Result<Fd> CacheDir::open_for_program(const CacheName& path, int flags) const {
  Fd file(::openat(handle().get(), path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | flags));
  if (!file.valid()) return os_error("cannot open a file of the cache");
  return file;
}

// The device numbers of the directory and of chunks/.
std::pair<uint64_t, uint64_t> CacheDir::devices() const {
  struct stat dir = {}, chunks = {};
  const bool known = ::fstat(fd(), &dir) == 0 && ::fstat(chunks_.get(), &chunks) == 0;
  return known ? std::pair<uint64_t, uint64_t>(dir.st_dev, chunks.st_dev) : std::pair<uint64_t, uint64_t>();
}

bool CacheDir::control_is_good(int file) const {
  struct stat st;
  if (::fstat(file, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size != sizeof(Control)) return false;
  Result<Mapping> map = Mapping::map(file, sizeof(Control), false);
  if (!map) return false;
  auto* c = static_cast<const Control*>(map->data());
  return c->magic == kControlMagic && c->format == kControlFormat && c->bytes == sizeof(Control) && c->instance != 0 &&
         std::pair(c->cache_dev, c->chunks_dev) == devices() && c->mount_count <= kMaxMounts;
}

Status CacheDir::open_control() {
  Fd file(::openat(fd(), kControlFile, O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!file.valid() || !control_is_good(file.get())) {
    if (Status s = new_control(); !s) return s;
    file = Fd(::openat(fd(), kControlFile, O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  }
  if (!file.valid()) return os_error("cannot open the control page of " + home_.name());
  Result<Mapping> map = Mapping::map(file.get(), sizeof(Control), true);
  if (!map) return map.error();
  control_ = std::move(*map);
  return {};
}

Status CacheDir::new_control() {
  auto fresh = std::make_unique<Control>();
  fresh->magic = kControlMagic;
  fresh->format = kControlFormat;
  fresh->bytes = sizeof(Control);
  std::tie(fresh->cache_dev, fresh->chunks_dev) = devices();
  while (fresh->instance == 0)
    if (::getrandom(&fresh->instance, sizeof fresh->instance, 0) < 0) return os_error("cannot get random bytes");
  Result<Fd> file = unnamed_file(tmp_.get());
  if (!file) return file.error();
  if (Status s = pwrite_all(file->get(), fresh.get(), sizeof(Control), 0); !s) return s;
  if (::fchmod(file->get(), 0644) != 0) return os_error("cannot set the mode of control");
  return link_file_over(file->get(), tmp_.get(), fd(), kControlFile);
}

FsSpace CacheDir::space() const {
  const FsSpace files = fs_space(fd()), chunks = fs_space(chunks_fd());
  return {files.total, std::min(files.free, chunks.free), std::min(files.free_inodes, chunks.free_inodes)};
}

uint64_t CacheDir::used_by_tables() const {
  return on_disk(sizeof(Control)) + kPresenceBytes + 4096;
}

bool CacheDir::program_present() const {
  return !nobody_else_has(presence_.get());
}

std::vector<uint64_t> CacheDir::dataset_folders() const {
  std::vector<uint64_t> ids;
  (void)for_each_name(fd(), [&](const char* name) {
    uint64_t id = 0;
    if (parse_hex(name, 16, &id) && id != 0) ids.push_back(id);
  });
  return ids;
}

std::vector<std::string> CacheDir::unknown_names() const {
  std::vector<std::string> names;
  (void)for_each_name(fd(), [&](const char* c) {
    std::string_view name = c;
    uint64_t id = 0;
    bool known = name == kLockFile || name == kControlFile || name == kPresenceFile || name == kUnfinishedFolder ||
                 name == kNamespaceFolder || name == kChunksFolder || parse_hex(name, 16, &id) ||
                 parse_numbered(name, kInodeTablePrefix, &id);
    if (!known) names.emplace_back(name);
  });
  return names;
}

// Only what this daemon made in an empty folder: no dataset was ever in it.
void CacheDir::remove_what_was_made() {
  if (!dataset_folders().empty()) return;
  (void)for_each_name(fd(), [&](const char* name) {
    std::string_view n = name;
    if (n == kLockFile || n == kControlFile || n == kPresenceFile || n.starts_with(kInodeTablePrefix))
      ::unlinkat(fd(), name, 0);
  });
  (void)for_each_name(namespace_.get(), [&](const char* name) { ::unlinkat(namespace_.get(), name, 0); });
  ::unlinkat(namespace_.get(), kMirrorFolder, AT_REMOVEDIR);
  ::unlinkat(fd(), kNamespaceFolder, AT_REMOVEDIR);
  for (const char* folder : {kUnfinishedFolder, kChunksFolder})
    ::unlinkat(fd(), folder, AT_REMOVEDIR);
  if (!home_.path().empty()) ::rmdir(home_.path().c_str());
}

}  // namespace larder
