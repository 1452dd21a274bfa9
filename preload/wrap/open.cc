#include "preload/wrap/open.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "preload/base/next.h"
#include "preload/base/sys.h"
#include "preload/lazy/handle_table.h"
#include "preload/resolve/cache_files.h"
#include "preload/resolve/daemon_client.h"

#ifndef SYS_openat2
#define SYS_openat2 437
#endif

namespace larder {
namespace {

// Flags that mean nothing on a whole file in memory, or that only its owner may use.
constexpr int kDropped = O_NOATIME | O_CREAT | O_EXCL | O_NOCTTY | O_DIRECT | O_SYNC | O_DSYNC | O_TRUNC;

bool wants_write(int flags) {
  return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0;
}
bool is_tmpfile(int flags) {
  return (flags & O_TMPFILE) == O_TMPFILE;
}

// The error that a read-only file system gives for these flags, or 0.
int refuse(const Lookup& f, int flags) {
  const bool exists = f.kind != Kind::kMissing;
  if ((flags & (O_CREAT | O_DIRECTORY)) == (O_CREAT | O_DIRECTORY)) return EINVAL;
  if ((flags & O_CREAT) != 0 && f.slash && (exists || f.creatable)) return EISDIR;
  if (!exists) return f.creatable && f.error == ENOENT && (flags & O_CREAT) != 0 ? EROFS : f.error;
  if ((flags & O_PATH) != 0) return f.kind == Kind::kFile && (flags & O_DIRECTORY) ? ENOTDIR : 0;
  if (is_tmpfile(flags)) return f.is_dir() ? EROFS : ENOTDIR;
  if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) return EEXIST;
  if (f.is_dir()) return wants_write(flags) || (flags & O_CREAT) ? EISDIR : 0;
  if (flags & O_DIRECTORY) return ENOTDIR;
  return wants_write(flags) ? EROFS : 0;
}

// Flags that a descriptor of a directory takes as it is.
constexpr int kDirectoryFlags = O_CLOEXEC | O_PATH | O_NONBLOCK;

// What a program gets of a lazy object: its handle, which is a directory to the kernel.
int open_handle(const Lookup& f, int flags) {
  const int fd = open_in_cache(handle_path(f.dataset_id, f.entry.oid), flags & kDirectoryFlags);
  if (fd >= 0 && (flags & O_PATH) == 0) prepare_handle(fd);
  return fd;
}

// The warm path: one system call. -ENOENT: not in the cache (any more).
int open_cached(const Lookup& f, int flags) {
  return open_object(f.dataset_id, f.entry.oid, flags & ~kDropped);
}

void note_warm(const Lookup& f) {
  if (f.touch != nullptr && *f.touch == 0) *f.touch = 1;
  count(&StatSlot::warm_opens);
  count(&StatSlot::warm_bytes, f.entry.size);
}

int open_native(const Lookup& f, int flags) {
  return sys::openat(AT_FDCWD, f.path, flags & ~(O_CREAT | O_EXCL | O_TRUNC));
}

// The same number, but a descriptor that cannot be read, as O_PATH promises.
int as_handle(int fd, int flags) {
  char path[32];
  sys::fd_path(fd, path);
  sys::Fd handle(sys::openat(AT_FDCWD, path, (flags & ~O_NOFOLLOW) | O_CLOEXEC));
  if (handle.get() >= 0) sys::call(SYS_dup3, handle.get(), fd, flags & O_CLOEXEC);
  return fd;
}

// The daemon's answer for a file that is not in the cache.
int open_missed(const Lookup& f, int flags) {
  count(&StatSlot::miss_opens);
  int fd = ask_for(Op::kFetch, f.dataset_id, f.entry.oid, f.rel(), f.rel_len(), (flags & O_CLOEXEC) != 0, f.fallback,
                   f.wait_ms);
  note_answer();
  if (fd >= 0) {
    if (flags & O_NONBLOCK) sys::fcntl(fd, F_SETFL, O_NONBLOCK);
    if ((flags & O_PATH) == 0) prepare_handle(fd);
    return (flags & O_PATH) != 0 ? as_handle(fd, flags) : fd;
  }
  if (fd == -ENOTCONN && f.fallback == Fallback::kOrigin) return open_native(f, flags);
  if (fd == -ENOTCONN || fd == -EPROTO) fd = -EIO;
  if (fd == -EIO) count(&StatSlot::errors);
  return fd;
}

// Waits until the catalog is newer than the one `f` came from; the daemon said that it is.
bool newer_catalog(const Lookup& f) {
  for (int i = 0; i < 100; ++i) {
    State* s = current_state();
    if (s != nullptr && s->generation != f.generation) return true;
    sys::sleep_ms(10);
  }
  return false;
}

}  // namespace

int open_directory(const Lookup& f, int flags) {
  const CacheName name = mirror_path(f.kind == Kind::kAbove ? 0 : f.dataset_id, f.entry.dir_hash);
  int fd = open_in_cache(name, (flags & kDirectoryFlags) | O_DIRECTORY);
  if (fd < 0) {
    fd = ask_for(Op::kDirectory, f.dataset_id, ObjectId{}, f.rel(), f.rel_len(), (flags & O_CLOEXEC) != 0, f.fallback,
                 f.wait_ms);
    note_answer();
    if (fd == -ENOTCONN || fd == -EPROTO) fd = -EIO;
  }
  if (fd >= 0) set_directory_hint(fd, true);
  return fd;
}

int open_found(Found& f, int flags) {
  for (int attempt = 0;; ++attempt) {
    if (int error = refuse(f, flags)) return -error;
    if (f.is_dir()) return open_directory(f, flags);
    int fd = f.resident ? open_cached(f, flags) : f.lazy ? open_handle(f, flags) : -ENOENT;
    if (fd >= 0) {
      note_warm(f);
      return fd;
    }
    if (fd == -EMFILE || fd == -ENFILE || fd == -EACCES || fd == -ENOMEM) return fd;
    fd = open_missed(f, flags);
    // The connection took the last free number, so that the file's own could not be received. It is there now.
    if (fd == -EMFILE) {
      fd = open_cached(f, flags);
      if (fd == -ENOENT) fd = open_handle(f, flags);
      return fd == -ENOENT ? -EMFILE : fd;
    }
    if (fd != -ESTALE || attempt >= 4 || !newer_catalog(f)) return fd;
    if (!route(AT_FDCWD, f.path, &f)) return -ENOENT;  // what does the newer catalog say of the path?
  }
}

namespace {

// The kernel opened a folder, perhaps through a symlink: if a mount covers it, what covers it takes its number.
int uncovered(int fd, const struct stat& st, int flags) {
  State* s = current_state();
  Scratch<Found> f;
  if (s == nullptr || s->covered_count == 0 || !f || !route_covered(st, f.get())) return fd;
  int ours = open_directory(*f.get(), flags | O_CLOEXEC);
  if (ours >= 0) sys::call(SYS_dup3, ours, fd, flags & O_CLOEXEC);
  sys::close(ours >= 0 ? ours : fd);
  if (ours < 0) return fail(-ours);
  set_directory_hint(ours, false);
  set_directory_hint(fd, true);
  return fd;
}

template <typename Native>
auto opener(int flags, Native native) {
  return [flags, native](int at, const char* p) {
    int fd = native(at, p);
    if (fd < 0 || !(flags & O_DIRECTORY) || is_tmpfile(flags)) return fd;
    struct stat st;
    if (current_state() == nullptr || sys::fstat(fd, &st) != 0) return fd;
    if (identify(st).lazy) return sys::close(fd), fail(ENOTDIR);  // by way of /proc/self/fd
    note_directory(fd, st);
    return uncovered(fd, st, flags);
  };
}

template <typename Native>
__attribute__((noinline)) int open_special(int dirfd, const char* path, int flags, Native native) {
  auto ours = [flags](Found& f) {
    int r = open_found(f, flags);
    return r < 0 ? fail(-r) : r;
  };
  if (flags & (O_CREAT | O_TRUNC)) {  // the kernel must not create anything in a directory of ours
    Found f;
    if (route_for_write(dirfd, path, &f)) return ours(f);
  }
  struct stat st;
  if (is_tmpfile(flags) && current_state() != nullptr && sys::fstatat(dirfd, path, &st, 0) == 0) {
    Scratch<Found> f;
    if (f && route_covered(st, f.get())) return ours(*f.get());
  }
  return dispatch(dirfd, path, (flags & O_NOFOLLOW) == 0, ours, opener(flags, native));
}

template <typename Native>
inline int open_wrapper(int dirfd, const char* path, int flags, Native native) {
  if (flags & (O_CREAT | O_TRUNC | O_DIRECTORY)) return open_special(dirfd, path, flags, native);
  return dispatch(
      dirfd, path, (flags & O_NOFOLLOW) == 0,
      [flags](Found& f) {
        int r = open_found(f, flags);
        return r < 0 ? fail(-r) : r;
      },
      native);
}

int raw_open(int dirfd, const char* path, int flags, unsigned mode) {
  return libc_result<int>(sys::openat(dirfd, path, flags, mode));
}

}  // namespace

int open_any(int dirfd, const char* path, int flags) {
  return open_wrapper(dirfd, path, flags, [flags](int at, const char* p) { return raw_open(at, p, flags, 0); });
}

long open_how_any(int dirfd, const char* path, const void* how, size_t size) {
  auto native = [&](int at, const char* p) {
    return libc_result<int>(sys::call(SYS_openat2, at, sys::arg(p), sys::arg(how), static_cast<long>(size)));
  };
  uint64_t flags;  // the first field of struct open_how
  if (how == nullptr || size < sizeof(flags)) return native(dirfd, path);
  memcpy(&flags, how, sizeof(flags));
  return open_wrapper(dirfd, path, static_cast<int>(flags), native);
}

}  // namespace larder

using namespace larder;

// The mode argument exists only where a file may be made.
#define READ_MODE(flags)                             \
  mode_t mode = 0;                                   \
  if (((flags)&O_CREAT) != 0 || is_tmpfile(flags)) { \
    va_list ap;                                      \
    va_start(ap, flags);                             \
    mode = va_arg(ap, mode_t);                       \
    va_end(ap);                                      \
  }

#define OPEN(name)                                                                 \
  int larder_##name(const char* path, int flags, ...) {                            \
    READ_MODE(flags)                                                               \
    return open_wrapper(AT_FDCWD, path, flags, [=](int at, const char* p) {        \
      return next.name ? next.name(p, flags, mode) : raw_open(at, p, flags, mode); \
    });                                                                            \
  }
OPEN(open)
OPEN(open64)
OPEN(__open)
OPEN(__open64)

#define OPENAT(name)                                                                   \
  int larder_##name(int dirfd, const char* path, int flags, ...) {                     \
    READ_MODE(flags)                                                                   \
    return open_wrapper(dirfd, path, flags, [=](int at, const char* p) {               \
      return next.name ? next.name(at, p, flags, mode) : raw_open(at, p, flags, mode); \
    });                                                                                \
  }
OPENAT(openat)
OPENAT(openat64)

#define OPEN_2(name)                                                        \
  int larder_##name(const char* path, int flags) {                          \
    return open_wrapper(AT_FDCWD, path, flags, [=](int at, const char* p) { \
      return next.name ? next.name(p, flags) : raw_open(at, p, flags, 0);   \
    });                                                                     \
  }
OPEN_2(__open_2)
OPEN_2(__open64_2)

#define OPENAT_2(name)                                                        \
  int larder_##name(int dirfd, const char* path, int flags) {                 \
    return open_wrapper(dirfd, path, flags, [=](int at, const char* p) {      \
      return next.name ? next.name(at, p, flags) : raw_open(at, p, flags, 0); \
    });                                                                       \
  }
OPENAT_2(__openat_2)
OPENAT_2(__openat64_2)

int larder_openat2(int dirfd, const char* path, const struct open_how* how, size_t size) {
  return static_cast<int>(open_how_any(dirfd, path, how, size));
}

#define CREAT(name)                                                          \
  int larder_##name(const char* path, mode_t mode) {                         \
    constexpr int kFlags = O_CREAT | O_WRONLY | O_TRUNC;                     \
    return open_wrapper(AT_FDCWD, path, kFlags, [=](int at, const char* p) { \
      return next.name ? next.name(p, mode) : raw_open(at, p, kFlags, mode); \
    });                                                                      \
  }
CREAT(creat)
CREAT(creat64)
