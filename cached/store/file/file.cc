#include "cached/store/file/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "cached/base/files.h"
#include "cached/base/text.h"
#include "cached/store/api/options.h"
#include "cached/store/file/beneath.h"

namespace larder {
namespace {

constexpr size_t kPage = 1000;  // objects a call of list()'s receiver
constexpr int kMaxDepth = 2000;
constexpr size_t kMaxUnfinished = 10'000;  // that are remembered

struct CloseDir {
  void operator()(DIR* dir) const { closedir(dir); }
};

constexpr unsigned kFields = STATX_TYPE | STATX_MODE | STATX_SIZE | STATX_INO | STATX_MTIME | STATX_CTIME | STATX_BTIME;

// 0, or -1 with errno.
int look(int at, const char* name, int flags, struct statx& out) {
  return statx(at, name, flags, kFields, &out);
}
int look(const Fd& fd, struct statx& out) {
  return look(fd.get(), "", AT_EMPTY_PATH, out);
}

int64_t ns(const statx_timestamp& time) {
  return as_ns(time.tv_sec, time.tv_nsec);
}

Error system_error(int code, std::string_view object) {
  const int seen = code == ENOTDIR || code == ELOOP ? ENOENT : code == EPERM ? EACCES : code;
  return make_error(seen, fmt::format("{}: {}", printable(object, 1200), strerror(code)));
}

ObjectInfo info_of(std::string key, const struct statx& file) {
  return {std::move(key), file.stx_size, ns(file.stx_mtime), file_etag(file)};
}

// One walk over the tree.
class Lister {
 public:
  using Page = std::function<Status(std::vector<ObjectInfo>&&)>;
  Lister(const std::string& directory, const FileListing& what, const Filter& unwanted, bool files_only,
         const Page& page)
      : directory_(directory), what_(what), unwanted_(unwanted), files_only_(files_only), page_(page) {}

  Status run() {
    Fd root(open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!root.valid()) return system_error(errno, directory_);
    if (what_.symlinks == Symlinks::kInside) inside_ = path_of(root);
    std::string path;
    if (auto status = folder(std::move(root), path); !status.ok()) return status;
    return flush();
  }
  uint64_t skipped() const { return skipped_; }
  uint64_t unreadable() const { return unreadable_; }
  const std::string& first_unreadable() const { return first_unreadable_; }
  std::vector<std::string>& unfinished() { return unfinished_; }

 private:
  struct Entry {
    std::string name;  // a directory's ends in '/': so they sort as their keys do ("a-b" before "a/b")
    struct statx file;
  };
  struct Ancestor {
    dev_t device;
    ino_t inode;
  };

  Status folder(Fd fd, std::string& path) {
    struct stat st {};
    if (fstat(fd.get(), &st) != 0) return system_error(errno, full(path));
    const bool loop = std::any_of(above_.begin(), above_.end(),
                                  [&](auto& a) { return a.device == st.st_dev && a.inode == st.st_ino; });
    if (loop || above_.size() >= kMaxDepth) {
      ++skipped_;
      return {};
    }
    above_.push_back({st.st_dev, st.st_ino});
    Status status = entries(fd, path);
    above_.pop_back();
    return status;
  }

  // A folder below which nothing is shown is shown itself, unless it may not be read.
  Status entries(const Fd& fd, std::string& path) {
    std::vector<Entry> all;
    const uint64_t shown = shown_, unreadable = unreadable_;
    if (auto status = read_entries(fd, path, all); !status.ok()) return status;
    const bool was_read = unreadable_ == unreadable || !all.empty();
    if (auto status = each(fd, all, path); !status.ok()) return status;
    return shown_ == shown && was_read && !path.empty() && !files_only_ ? emit_folder(fd, path) : Status();
  }

  Status each(const Fd& fd, std::vector<Entry>& all, std::string& path) {
    std::sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.name < b.name; });
    for (auto& entry : all) {
      const size_t before = path.size();
      path += entry.name;
      Status status = S_ISDIR(entry.file.stx_mode) ? descend(fd, entry, path) : emit(path, entry.file);
      path.resize(before);
      if (!status.ok()) return status;
    }
    return {};
  }

  Status read_entries(const Fd& fd, const std::string& path, std::vector<Entry>& out) {
    const int copy = fcntl(fd.get(), F_DUPFD_CLOEXEC, 0);
    if (copy < 0) return system_error(errno, full(path));
    const std::unique_ptr<DIR, CloseDir> dir(fdopendir(copy));
    if (!dir) {
      const int code = errno;
      close(copy);
      return unreadable(code, path);
    }
    errno = 0;
    while (const dirent* d = readdir(dir.get())) {
      if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0) {
        if (auto status = read_entry(fd, d->d_name, path, out); !status.ok()) return status;
      }
      errno = 0;
    }
    return errno == 0 ? Status() : unreadable(errno, path);
  }

  Status read_entry(const Fd& fd, const char* name, const std::string& path, std::vector<Entry>& out) {
    if (std::string_view(name).starts_with(kUnfinishedPrefix)) {
      if (unfinished_.size() < kMaxUnfinished) unfinished_.push_back(path + name);
      return {};
    }
    Entry entry{name, {}};
    if (look_at(fd, name, entry.file) != 0) {
      // Gone since readdir, or a symlink that leads nowhere.
      if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP) return unreadable(errno, path + name);
      struct stat link {};
      if (fstatat(fd.get(), name, &link, AT_SYMLINK_NOFOLLOW) == 0) ++skipped_;
      return {};
    }
    if (S_ISDIR(entry.file.stx_mode)) {
      entry.name.push_back('/');
    } else if (!S_ISREG(entry.file.stx_mode)) {
      ++skipped_;
      return {};
    }
    out.push_back(std::move(entry));
    return {};
  }

  // 0, or -1 with errno. What a symlink leads to, if it is followed.
  int look_at(const Fd& fd, const char* name, struct statx& out) {
    const bool follow = what_.symlinks == Symlinks::kFollow;
    if (look(fd.get(), name, follow ? 0 : AT_SYMLINK_NOFOLLOW, out) != 0) return -1;
    if (what_.symlinks != Symlinks::kInside || !S_ISLNK(out.stx_mode)) return 0;
    const Fd target(openat(fd.get(), name, O_PATH | O_CLOEXEC));
    if (!target.valid()) return -1;
    return is_below(target, inside_) ? look(target, out) : 0;  // else the link is no file
  }

  Status descend(const Fd& fd, const Entry& entry, std::string& path) {
    const std::string name = entry.name.substr(0, entry.name.size() - 1);
    if (what_.exclude.excludes_folder(std::string_view(path).substr(0, path.size() - 1))) return {};
    Fd child(openat(fd.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!child.valid() && (errno == ENOENT || errno == ENOTDIR)) return {};  // gone meanwhile
    if (!child.valid()) return unreadable(errno, path);
    if (what_.symlinks == Symlinks::kInside && !is_below(child, inside_)) return {};  // became a link meanwhile
    return folder(std::move(child), path);
  }

  // A folder that cannot be read, or an entry of one that may not be entered (path: with or without a slash at the
  // end).
  Status unreadable(int code, std::string_view path) {
    const std::string_view name = path.ends_with('/') ? path.substr(0, path.size() - 1) : path;
    if (!name.empty() && unwanted_.excludes_folder(name)) return {};
    const bool forbidden = code == EACCES || code == EPERM;
    if (forbidden && what_.skip_unreadable && !name.empty()) {
      if (unreadable_++ == 0) first_unreadable_ = name;
      return {};
    }
    Error error = system_error(code, full(path));
    if (forbidden)
      error.message +=
          "; exclude (a pattern such as lost+found/) leaves it out, and the source option unreadable=skip "
          "all that may not be read";
    return error;
  }

  Status emit(const std::string& path, const struct statx& file) {
    return what_.exclude.includes(path) ? add(info_of(path, file)) : Status();
  }

  // An empty object whose key ends in '/', as stores have it.
  Status emit_folder(const Fd& fd, const std::string& path) {
    struct statx folder {};
    if (look(fd, folder) != 0) return system_error(errno, full(path));
    return add({path, 0, ns(folder.stx_mtime), {}});
  }

  Status add(ObjectInfo&& object) {
    ++shown_;
    page_now_.push_back(std::move(object));
    return page_now_.size() >= kPage ? flush() : Status();
  }

  Status flush() {
    if (page_now_.empty()) return {};
    return page_(std::exchange(page_now_, {}));
  }

  std::string full(std::string_view path) const { return fmt::format("file://{}/{}", directory_, path); }

  const std::string& directory_;
  const FileListing& what_;
  const Filter& unwanted_;
  const bool files_only_;
  const Page& page_;
  std::vector<std::string> unfinished_;
  std::vector<Ancestor> above_;
  std::vector<ObjectInfo> page_now_;
  uint64_t skipped_ = 0, unreadable_ = 0, shown_ = 0;
  std::string first_unreadable_;
  std::string inside_;  // where followed links have to end
};

}  // namespace

std::string file_etag(const struct statx& file) {
  const bool has_birth = (file.stx_mask & STATX_BTIME) != 0;
  const uint64_t birth = has_birth ? static_cast<uint64_t>(ns(file.stx_btime)) : 0;
  // Major 0 is given to NFS, FUSE and the like in the order of their mounts: another one after each.
  const bool has_device = file.stx_dev_major != 0;
  const uint64_t device = has_device ? uint64_t{file.stx_dev_major} << 32 | file.stx_dev_minor : 0;
  return fmt::format("{:x}-{:x}-{:x}-{:x}-{:x}-{:x}", static_cast<uint64_t>(ns(file.stx_mtime)), file.stx_size,
                     file.stx_ino, static_cast<uint64_t>(ns(file.stx_ctime)), birth, device);
}

FileStore::FileStore(std::string directory, int threads, FileListing listing, std::chrono::milliseconds stall_timeout)
    : directory_(std::move(directory)),
      listing_(std::move(listing)),
      stall_timeout_(stall_timeout),
      writer_(directory_) {
  for (int i = 0; i < threads; ++i)
    threads_.emplace_back([this] { work(); });
  threads_.emplace_back([this] { watch(); });
}

FileStore::~FileStore() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
  }
  ready_.notify_all();
  watched_.notify_all();
  for (auto& thread : threads_)
    thread.join();
  for (auto* queue : {&demand_, &fill_}) {
    for (auto& waiting : *queue)
      finish(waiting->request, make_error(EIO, name(waiting->request.key) + ": the store is being closed"));
  }
}

Status FileStore::list(const std::function<Status(std::vector<ObjectInfo>&&)>& page) {
  lists_.fetch_add(1, std::memory_order_relaxed);
  Lister lister(directory_, listing_, unwanted_, files_only_, page);
  Status status = lister.run();
  unfinished_ = std::move(lister.unfinished());
  skipped_.store(lister.skipped());
  unreadable_.store(lister.unreadable());
  if (lister.unreadable() > 0)
    spdlog::warn(
        "file://{}: {} folders or entries may not be read and are not shown (unreadable=skip), the first is {}",
        printable(directory_), lister.unreadable(), printable(lister.first_unreadable()));
  if (lister.skipped() > 0) {
    spdlog::warn(
        "file://{}: {} entries are no files (special files, symlinks that lead nowhere, in a loop or, with "
        "symlinks=inside, out of the source) and were passed over",
        printable(directory_), lister.skipped());
  }
  return status;
}

Result<ObjectInfo> FileStore::head(std::string_view key) {
  if (!plain_key(key)) return make_error(ENOENT, name(key) + ": no such object");
  const Fd fd = open_below(directory_, key, O_PATH);
  struct statx file {};
  if (!fd.valid() || look(fd, file) != 0) return system_error(errno, name(key));
  if (!may_show(fd))
    return make_error(ENOENT, printable(name(key), 1200) + ": a symbolic link leads out of the source");
  if (!S_ISREG(file.stx_mode)) return make_error(ENOENT, printable(name(key), 1200) + ": no regular file");
  return info_of(std::string(key), file);
}

Status FileStore::open_listed(const ObjectInfo& object, OpenFile& out) {
  out.object = name(object.key);
  if (!plain_key(object.key)) return make_error(ENOENT, printable(out.object, 1200) + ": no such object");
  // O_NONBLOCK: a pipe that took the file's place must not stop the thread.
  out.fd = open_below(directory_, object.key, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  if (!out.fd.valid()) return system_error(errno, out.object);
  return unchanged(object, out);
}

bool FileStore::may_show(const Fd& file) const {
  if (listing_.symlinks != Symlinks::kInside) return true;
  const Fd root(open(directory_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  return root.valid() && is_below(file, path_of(root));
}

Status FileStore::unchanged(const ObjectInfo& object, const OpenFile& file) {
  struct statx now {};
  if (look(file.fd, now) != 0) return system_error(errno, file.object);
  const bool same =
      S_ISREG(now.stx_mode) && now.stx_size == object.size && (object.etag.empty() || object.etag == file_etag(now));
  if (!same) return make_error(ESTALE, printable(file.object, 1200) + ": changed since it was listed");
  return {};
}

Result<size_t> FileStore::read_some(const OpenFile& file, uint64_t offset, std::span<std::byte> out) {
  ssize_t got = 0;
  do {
    got = pread(file.fd.get(), out.data(), out.size(), static_cast<off_t>(offset));
  } while (got < 0 && errno == EINTR);
  if (got < 0) return system_error(errno, file.object);
  if (got == 0) return make_error(ESTALE, printable(file.object, 1200) + ": became shorter while it was read");
  bytes_.fetch_add(static_cast<uint64_t>(got), std::memory_order_relaxed);
  return static_cast<size_t>(got);
}

Status FileStore::read_object(Reading& reading, std::vector<std::byte>& buffer) {
  const GetRequest& request = reading.request;
  gets_.fetch_add(1, std::memory_order_relaxed);
  const ObjectInfo object{request.key, request.object_size, 0, request.etag};
  OpenFile file;
  if (auto status = open_listed(object, file); !status.ok()) return status;
  for (uint64_t done = 0; done < request.length;) {
    const size_t want = std::min<uint64_t>(buffer.size(), request.length - done);
    auto got = read_some(file, request.offset + done, std::span(buffer).first(want));
    if (!got.ok()) return got.error();
    if (auto status = deliver(reading, {buffer.data(), *got}); !status.ok()) return status;
    done += *got;
  }
  return unchanged(object, file);
}

Status FileStore::read(const ObjectInfo& object, uint64_t offset, std::span<std::byte> out) {
  gets_.fetch_add(1, std::memory_order_relaxed);
  OpenFile file;
  if (auto status = open_listed(object, file); !status.ok()) return status;
  while (!out.empty()) {
    auto got = read_some(file, offset, out);
    if (!got.ok()) return got.error();
    out = out.subspan(*got);
    offset += *got;
  }
  return unchanged(object, file);
}

StoreCounters FileStore::counters() const {
  StoreCounters out;
  out.gets = gets_.load(std::memory_order_relaxed);
  out.lists = lists_.load(std::memory_order_relaxed);
  out.bytes = bytes_.load(std::memory_order_relaxed);
  out.errors = errors_.load(std::memory_order_relaxed);
  out.in_flight = reading_.load(std::memory_order_relaxed);
  MutexLock lock(mutex_);
  out.queued = demand_.size() + fill_.size();
  return out;
}

Result<std::unique_ptr<Store>> open_file(const SourceUrl& source, const StoreOptions& options) {
  // 8 readers: a local disk needs no more, an NFS mount gains from a few.
  auto threads = int_option(options, "max_connections", 8, 1, 64);
  if (!threads.ok()) return threads.error();
  auto stall = int_option(options, "stall_timeout_ms", FileStore::kStallTimeout.count(), 100, 600'000);
  if (!stall.ok()) return stall.error();
  auto symlinks = choice_option(options, "symlinks", {"follow", "inside", "skip"});
  if (!symlinks.ok()) return symlinks.error();
  auto unreadable = choice_option(options, "unreadable", {"fail", "skip"});
  if (!unreadable.ok()) return unreadable.error();
  auto exclude = exclude_filter(option(options, "exclude"));
  if (!exclude.ok()) return make_error(EINVAL, "store option exclude: " + exclude.error().message);
  const Symlinks how = *symlinks == "skip"     ? Symlinks::kSkip
                       : *symlinks == "inside" ? Symlinks::kInside
                                               : Symlinks::kFollow;
  FileListing listing{how, std::move(*exclude), *unreadable == "skip"};
  struct stat st {};
  if (stat(source.prefix.c_str(), &st) != 0) return system_error(errno, source.text());
  if (!S_ISDIR(st.st_mode)) return make_error(ENOTDIR, printable(source.text()) + ": no directory");
  return std::unique_ptr<Store>(std::make_unique<FileStore>(source.prefix, static_cast<int>(*threads),
                                                            std::move(listing), std::chrono::milliseconds(*stall)));
}

}  // namespace larder
