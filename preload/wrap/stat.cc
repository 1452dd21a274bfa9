#include "preload/wrap/stat.h"

#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "preload/base/next.h"
#include "preload/base/sys.h"
#include "preload/lazy/lazy_read.h"

namespace larder {
namespace {

timespec to_timespec(int64_t ns) {
  int64_t s = ns / 1000000000, rest = ns % 1000000000;
  if (rest < 0) {
    rest += 1000000000;
    --s;
  }
  return {s, rest};
}

void set_times(struct stat* st, timespec t) {
  st->st_atim = st->st_mtim = st->st_ctim = t;
}

void set_file(struct stat* st, uint64_t dev, uint64_t inode, uint64_t size, unsigned uid, unsigned gid) {
  st->st_dev = dev;
  st->st_ino = inode;
  st->st_mode = S_IFREG | 0444;
  st->st_nlink = 1;
  st->st_uid = uid;
  st->st_gid = gid;
  st->st_rdev = 0;
  st->st_size = static_cast<off_t>(size);
  st->st_blksize = kBlockSize;
  st->st_blocks = static_cast<blkcnt_t>((size + 4095) / 4096 * 8);  // whole pages, as tmpfs counts
}

// Sizes and link counts as tmpfs gives them: 20 bytes an entry, one link a subdirectory (find relies on it).
void set_directory(struct stat* st, const CatalogEntry& e, uint64_t dev, unsigned uid, unsigned gid) {
  st->st_dev = dev;
  st->st_ino = e.dir_hash;
  st->st_mode = S_IFDIR | 0555;
  st->st_nlink = 2 + e.dir.subdirectory_count;
  st->st_uid = uid;
  st->st_gid = gid;
  st->st_rdev = 0;
  st->st_size = 40 + 20 * off_t{e.dir.child_count};
  st->st_blksize = kBlockSize;
  st->st_blocks = 0;
}

}  // namespace

void fill_stat(const Lookup& f, struct stat* st) {
  memset(st, 0, sizeof(*st));
  if (f.kind == Kind::kFile)
    set_file(st, f.dev, f.entry.inode(), f.entry.size, f.uid, f.gid);
  else
    set_directory(st, f.entry, f.dev, f.uid, f.gid);
  set_times(st, to_timespec(f.entry.mtime_ns));
  count(&StatSlot::stats);
}

namespace {

int patch_directory(const Identity& id, struct stat* st) {
  Session session;
  do {
    if (!enter(&session)) return 0;
    const State* s = session.state;
    const View* view = id.kind == Kind::kAbove ? s->ns : nullptr;
    for (uint32_t m = 0; id.kind == Kind::kDirectory && m < s->mount_count && view == nullptr; ++m) {
      if (s->mounts[m].dataset_id == id.dataset_id) view = s->mounts[m].view;
    }
    uint32_t i = view != nullptr ? view->catalog.find_directory(id.inode) : kNoEntry;
    CatalogEntry e = {};
    e.dir_hash = id.inode;
    if (i != kNoEntry) e = view->catalog.entries[i];
    set_directory(st, e, dataset_dev(id.dataset_id), s->uid, s->gid);
    if (i == kNoEntry) st->st_nlink = 0;  // removed from the dataset while open
    set_times(st, to_timespec(e.mtime_ns));
  } while (!left_intact(session));
  return 1;
}

}  // namespace

int patch_stat(struct stat* st) {
  State* s = current_state();
  if (s == nullptr || (st->st_dev != s->cache_dev && st->st_dev != s->chunks_dev)) return 0;
  Identity id = identify(*st);
  if (id.kind == Kind::kNone) return 0;
  if (id.kind != Kind::kFile) return patch_directory(id, st);
  uint64_t size = static_cast<uint64_t>(st->st_size);
  if (id.lazy) {
    Lazy lazy;
    if (int error = find_lazy(*st, &lazy)) return error;
    size = lazy.size;
  }
  timespec t = st->st_mtim;  // the daemon gave the cache file, or the handle, the object's
  set_file(st, dataset_dev(id.dataset_id), id.inode, size, s->uid, s->gid);
  set_times(st, t);
  return 1;
}

int check_access(const Lookup& f, int mode) {
  if (mode & ~(R_OK | W_OK | X_OK)) return EINVAL;
  if (f.kind == Kind::kMissing) return f.error;
  if (mode & W_OK) return EROFS;
  return (mode & X_OK) && f.kind == Kind::kFile ? EACCES : 0;
}

namespace {

// stat64 is stat on both machines.
struct stat* plain(struct stat64* st) {
  static_assert(sizeof(struct stat) == sizeof(struct stat64) &&
                offsetof(struct stat, st_ctim) == offsetof(struct stat64, st_ctim));
  return reinterpret_cast<struct stat*>(st);
}
struct stat* plain(struct stat* st) {
  return st;
}

int answer(const Lookup& f, struct stat* st) {
  if (f.kind == Kind::kMissing) return fail(f.error);
  if (st == nullptr) return fail(EFAULT);
  fill_stat(f, st);
  return 0;
}

// A path may lead to a cache file by the kernel's own ways (/dev/stdin, /proc/self/fd/3, "."), or, through a symlink,
// to a directory that a mount covers. 1: st now says what it is; 0: nothing of ours; -errno: a lazy object that is
// gone.
__attribute__((noinline)) int patch_any(struct stat* st) {
  if (int r = patch_stat(st)) return r;
  State* s = S_ISDIR(st->st_mode) ? current_state() : nullptr;
  if (s == nullptr || s->covered_count == 0) return 0;
  Scratch<Found> f;
  if (!f || !route_covered(*st, f.get())) return 0;
  fill_stat(*f.get(), st);
  return 1;
}

// A quick test first: other files of the cache's tmpfs are not a dataset's either.
inline bool may_need_patch(const State* s, const struct stat& st) {
  if (s->slot_of(st.st_dev, st.st_ino) != nullptr) return true;
  return S_ISDIR(st.st_mode) && s->covered_count != 0;
}

inline int patched(int r, struct stat* st) {
  State* s = r == 0 && st != nullptr ? current_state() : nullptr;
  if (s == nullptr || !may_need_patch(s, *st)) return r;
  const int error = patch_any(st);
  return error < 0 ? fail(-error) : r;
}

template <typename Native>
int stat_wrapper(int dirfd, const char* path, struct stat* st, int flags, Native native) {
  return dispatch(
      dirfd, path, (flags & AT_SYMLINK_NOFOLLOW) == 0, [st](Found& f) { return answer(f, st); },
      [st, native](int at, const char* p) { return patched(native(at, p), st); });
}

int raw_stat(int dirfd, const char* path, struct stat* st, int flags) {
  int r = sys::fstatat(dirfd, path, st, flags);
  return r < 0 ? fail(-r) : r;
}

int raw_fstat(int fd, struct stat* st) {
  int r = sys::fstat(fd, st);
  return r < 0 ? fail(-r) : r;
}

// struct stat's layout number: what __xstat's callers were built with.
#if defined(__x86_64__)
constexpr int kStatVersion = 1;
#else
constexpr int kStatVersion = 0;
#endif

}  // namespace
}  // namespace larder

using namespace larder;

// glibc before 2.33 has only __xstat and its kin: then the kernel is asked.
#define STAT(name, type, flags)                                                        \
  int larder_##name(const char* path, type* st) {                                      \
    return stat_wrapper(AT_FDCWD, path, plain(st), flags, [=](int at, const char* p) { \
      return next.name ? next.name(p, st) : raw_stat(at, p, plain(st), flags);         \
    });                                                                                \
  }
STAT(stat, struct stat, 0)
STAT(stat64, struct stat64, 0)
STAT(lstat, struct stat, AT_SYMLINK_NOFOLLOW)
STAT(lstat64, struct stat64, AT_SYMLINK_NOFOLLOW)

#define FSTAT(name, type)                                                                \
  int larder_##name(int fd, type* st) {                                                  \
    return patched(next.name ? next.name(fd, st) : raw_fstat(fd, plain(st)), plain(st)); \
  }
FSTAT(fstat, struct stat)
FSTAT(fstat64, struct stat64)

#define FSTATAT(name, type)                                                               \
  int larder_##name(int dirfd, const char* path, type* st, int flags) {                   \
    return stat_wrapper(dirfd, path, plain(st), flags, [=](int at, const char* p) {       \
      return next.name ? next.name(at, p, st, flags) : raw_stat(at, p, plain(st), flags); \
    });                                                                                   \
  }
FSTATAT(fstatat, struct stat)
FSTATAT(fstatat64, struct stat64)

#define XSTAT(name, type, flags)                                                       \
  int larder_##name(int ver, const char* path, type* st) {                             \
    if (ver != kStatVersion && next.name) return next.name(ver, path, st);             \
    return stat_wrapper(AT_FDCWD, path, plain(st), flags, [=](int at, const char* p) { \
      return next.name ? next.name(ver, p, st) : raw_stat(at, p, plain(st), flags);    \
    });                                                                                \
  }
XSTAT(__xstat, struct stat, 0)
XSTAT(__xstat64, struct stat64, 0)
XSTAT(__lxstat, struct stat, AT_SYMLINK_NOFOLLOW)
XSTAT(__lxstat64, struct stat64, AT_SYMLINK_NOFOLLOW)

#define FXSTAT(name, type)                                                 \
  int larder_##name(int ver, int fd, type* st) {                           \
    int r = next.name ? next.name(ver, fd, st) : raw_fstat(fd, plain(st)); \
    return ver == kStatVersion ? patched(r, plain(st)) : r;                \
  }
FXSTAT(__fxstat, struct stat)
FXSTAT(__fxstat64, struct stat64)

#define FXSTATAT(name, type)                                                                   \
  int larder_##name(int ver, int dirfd, const char* path, type* st, int flags) {               \
    if (ver != kStatVersion && next.name) return next.name(ver, dirfd, path, st, flags);       \
    return stat_wrapper(dirfd, path, plain(st), flags, [=](int at, const char* p) {            \
      return next.name ? next.name(ver, at, p, st, flags) : raw_stat(at, p, plain(st), flags); \
    });                                                                                        \
  }
FXSTATAT(__fxstatat, struct stat)
FXSTATAT(__fxstatat64, struct stat64)

namespace {

void to_statx(const struct stat& st, struct statx* x) {
  memset(x, 0, sizeof(*x));
  x->stx_mask = STATX_BASIC_STATS;
  x->stx_blksize = static_cast<uint32_t>(st.st_blksize);
  x->stx_nlink = static_cast<uint32_t>(st.st_nlink);
  x->stx_uid = st.st_uid;
  x->stx_gid = st.st_gid;
  x->stx_mode = static_cast<uint16_t>(st.st_mode);
  x->stx_ino = st.st_ino;
  x->stx_size = static_cast<uint64_t>(st.st_size);
  x->stx_blocks = static_cast<uint64_t>(st.st_blocks);
  x->stx_dev_major = static_cast<uint32_t>((st.st_dev >> 8) & 0xfff);
  x->stx_dev_minor = static_cast<uint32_t>((st.st_dev & 0xff) | ((st.st_dev >> 12) & ~0xffULL));
  x->stx_mtime = {st.st_mtim.tv_sec, static_cast<uint32_t>(st.st_mtim.tv_nsec), {}};
  x->stx_atime = x->stx_ctime = x->stx_mtime;
}

// A descriptor of ours behind a statx that the kernel answered: ask again in the older form and translate.
int patched_statx(int r, int dirfd, const char* path, int flags, struct statx* x) {
  State* s = r == 0 && x != nullptr ? current_state() : nullptr;
  if (s == nullptr) return r;
  uint64_t dev =
      (x->stx_dev_minor & 0xff) | uint64_t{x->stx_dev_major} << 8 | (uint64_t{x->stx_dev_minor} & ~0xffULL) << 12;
  const bool in_cache = dev == s->cache_dev || dev == s->chunks_dev;
  if (!in_cache && !(S_ISDIR(x->stx_mode) && s->covered_count != 0)) return r;
  struct stat st;
  constexpr int kKnown = AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;
  if (sys::fstatat(dirfd, path, &st, flags & kKnown) != 0) return r;
  const int ours = patch_any(&st);
  if (ours < 0) return fail(-ours);
  if (ours > 0) to_statx(st, x);
  return r;
}

int raw_statx(int dirfd, const char* path, int flags, unsigned mask, struct statx* x) {
  return libc_result<int>(sys::call(SYS_statx, dirfd, sys::arg(path), flags, mask, sys::arg(x)));
}

}  // namespace

int larder_statx(int dirfd, const char* path, int flags, unsigned mask, struct statx* x) {
  return dispatch(
      dirfd, path, (flags & AT_SYMLINK_NOFOLLOW) == 0,
      [&](Found& f) {
        struct stat st;
        if (x == nullptr && f.kind != Kind::kMissing) return fail(EFAULT);
        int r = answer(f, &st);
        if (r == 0) to_statx(st, x);
        return r;
      },
      [&](int at, const char* p) {
        int r = next.statx ? next.statx(at, p, flags, mask, x) : raw_statx(at, p, flags, mask, x);
        return patched_statx(r, at, p, flags, x);
      });
}

namespace {

// A symlink to a folder that a mount covers: the folder may be writable, what covers it is not.
bool leads_to_covered(int dirfd, const char* path, int flags) {
  State* s = current_state();
  struct stat st;
  if (s == nullptr || s->covered_count == 0) return false;
  Scratch<Found> f;
  return f && sys::fstatat(dirfd, path, &st, flags & AT_SYMLINK_NOFOLLOW) == 0 && route_covered(st, f.get());
}

// The kernel allowed it. What it looked at may be a cache file or a handle all the same, reached by a descriptor, whose
// modes are not what a program sees: the error that a dataset's file gives, or 0.
int check_reached(int dirfd, const char* path, int mode, int flags) {
  struct stat st;
  const bool by_descriptor =
      path != nullptr && (path[0] == 0 || strncmp(path, "/proc/", 6) == 0 || strncmp(path, "/dev/", 5) == 0);
  if (!by_descriptor || current_state() == nullptr) return 0;
  if (sys::fstatat(dirfd, path, &st, flags & (AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) return 0;
  const Identity id = identify(st);
  Lookup f;
  f.kind = id.kind;
  return id.kind == Kind::kNone ? 0 : check_access(f, mode);
}

template <typename Native>
int access_wrapper(int dirfd, const char* path, int mode, int flags, Native native) {
  return dispatch(
      dirfd, path, (flags & AT_SYMLINK_NOFOLLOW) == 0,
      [&](Found& f) {
        int error = check_access(f, mode);
        return error ? fail(error) : 0;
      },
      [=](int at, const char* p) {
        int r = native(at, p);
        if (r != 0 || (mode & (W_OK | X_OK)) == 0) return r;
        if (const int error = check_reached(at, p, mode, flags)) return fail(error);
        return (mode & W_OK) != 0 && leads_to_covered(at, p, flags) ? fail(EROFS) : r;
      });
}

int raw_access(int dirfd, const char* path, int mode) {
  return libc_result<int>(sys::call(SYS_faccessat, dirfd, sys::arg(path), mode));
}

}  // namespace

int larder_access(const char* path, int mode) {
  return access_wrapper(AT_FDCWD, path, mode, 0, [&](int at, const char* p) {
    return next.access ? next.access(p, mode) : raw_access(at, p, mode);
  });
}
int larder_faccessat(int dirfd, const char* path, int mode, int flags) {
  return access_wrapper(dirfd, path, mode, flags, [&](int at, const char* p) {
    return next.faccessat ? next.faccessat(at, p, mode, flags) : raw_access(at, p, mode);
  });
}
int larder_euidaccess(const char* path, int mode) {
  return access_wrapper(AT_FDCWD, path, mode, 0,
                        [&](int, const char* p) { return resolve_next(), next.euidaccess(p, mode); });
}
int larder_eaccess(const char* path, int mode) {
  return access_wrapper(AT_FDCWD, path, mode, 0,
                        [&](int, const char* p) { return resolve_next(), next.eaccess(p, mode); });
}

key_t larder_ftok(const char* path, int id) {
  struct stat st;
  if (larder_stat(path, &st) != 0) return -1;
  return static_cast<key_t>((st.st_ino & 0xffff) | (st.st_dev & 0xff) << 16 |
                            (static_cast<unsigned>(id) & 0xffu) << 24);
}
