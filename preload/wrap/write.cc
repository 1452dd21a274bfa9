// Calls that would change something: EROFS on a dataset, with the errors that a read-only file system gives before it.
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "preload/base/next.h"
#include "preload/base/sys.h"
#include "preload/resolve/dispatch.h"

namespace larder {
namespace {

// What a read-only file system says to each class of call.
int refuse_change(const Lookup& f) {
  return f.kind == Kind::kMissing ? f.error : EROFS;
}  // chmod, utime, setxattr
int refuse_truncate(const Lookup& f) {
  return f.is_dir() ? EISDIR : refuse_change(f);
}
int refuse_folder(const Lookup& f) {  // mkdir
  if (f.kind != Kind::kMissing || (f.creatable && f.error == ENOTDIR)) return EEXIST;
  return f.creatable && f.error == ENOENT ? EROFS : f.error;
}
int refuse_create(const Lookup& f) {  // symlink, mknod, link
  return f.kind == Kind::kMissing && f.slash && f.error == ENOENT ? ENOENT : refuse_folder(f);
}
// Refused before the last component is looked at; but a mount point belongs to the file system above it.
int refuse_unlink(const Lookup& f) {
  if (f.is_mount_point()) return EISDIR;
  return f.kind == Kind::kMissing && !f.creatable ? f.error : EROFS;
}
int refuse_rmdir(const Lookup& f) {
  return f.is_mount_point() ? EBUSY : refuse_unlink(f);
}

// The kernel must not try in a directory of ours first: as root it would succeed, in the cache.
template <typename Refuse, typename Native>
int guarded(int dirfd, const char* path, bool follow, Refuse refuse, Native native) {
  Found f;
  if (route_for_write(dirfd, path, &f)) return fail(refuse(f));
  auto call = [&](int at, const char* p) { return static_cast<int>(native(at, p)); };
  int r = f.rebased ? call(AT_FDCWD, f.path) : call(dirfd, path);
  if (!failed_missing(r)) return r;
  return dispatch_missing(
      dirfd, path, follow, r, [&](Found& late) { return fail(refuse(late)); }, call);
}

// One of the two paths of rename and link.
struct Side {
  int dirfd;
  const char* path;
  Found* found;
  bool ours = false;
  int error = 0;  // not ours: what the kernel finds wrong with it

  int native_dirfd() const { return found->rebased ? AT_FDCWD : dirfd; }
  const char* native_path() const { return found->rebased ? found->path : path; }
};

// What the kernel finds wrong with the folder of the last component, or 0.
int folder_error(const Side& side) {
  const char* path = side.path;
  size_t n = strlen(path);
  while (n > 0 && path[n - 1] == '/')
    --n;
  while (n > 0 && path[n - 1] != '/')
    --n;
  if (n > PATH_MAX) return side.error;
  char* folder = side.found->buffer;
  memcpy(folder, n > 0 ? path : ".", n > 0 ? n : 1);
  folder[n > 0 ? n : 1] = 0;
  struct stat st;
  return -sys::fstatat(side.dirfd, folder, &st, 0);
}

// A path that is not lexically ours: whether it leads to us all the same, or else its error. `whole`: the last
// component must exist.
void follow(Side* side, bool whole) {
  if (side->ours || side->found->rebased) return;
  struct stat st;
  side->error = -sys::fstatat(side->dirfd, side->path, &st, AT_SYMLINK_NOFOLLOW);
  if (side->path[0] == 0) return;
  if (side->error != ENOENT && side->error != ENOTDIR) return;
  side->ours = may_lead_to_ours(side->dirfd, side->path) && route_missing(side->dirfd, side->path, false, side->found);
  if (!side->ours && !whole) side->error = folder_error(*side);
}

// What a read-only file system finds wrong with the paths before it looks at where they are, or 0.
int path_error(const Side& from, const Side& to, bool creates) {
  const Lookup &a = *from.found, &b = *to.found;
  if (from.ours && a.kind == Kind::kMissing && (!a.creatable || creates)) return a.error;
  if (!from.ours && from.error != 0) return from.error;
  if (!to.ours) return to.error;
  if (b.kind == Kind::kMissing && !b.creatable) return b.error;
  const int refused = creates ? refuse_create(b) : EROFS;
  return refused != EROFS ? refused : 0;
}

// What a read-only file system says to rename and link, as soon as one side is ours. EXDEV between two file systems,
// which cp and mv take as "copy, then".
int refuse_pair(const Side& from, const Side& to, bool creates) {
  const int error = path_error(from, to, creates);
  if (error != 0) return error;
  return from.ours != to.ours || from.found->dev != to.found->dev ? EXDEV : EROFS;
}

template <typename Native>
int guarded_pair(int fd1, const char* from_path, int fd2, const char* to_path, bool creates, Native native) {
  Found a;
  Scratch<Found> b;
  if (!b) return fail(ENOMEM);
  if (from_path == nullptr || to_path == nullptr) return native(fd1, from_path, fd2, to_path);
  Side from{fd1, from_path, &a}, to{fd2, to_path, b.get()};
  from.ours = route_for_write(fd1, from_path, &a);
  to.ours = route_for_write(fd2, to_path, b.get());
  if (!from.ours && !to.ours) {
    const int r = native(from.native_dirfd(), from.native_path(), to.native_dirfd(), to.native_path());
    if (!failed_missing(r) || current_state() == nullptr) return r;
  }
  const int kept = errno;
  follow(&from, creates);
  follow(&to, false);
  return fail(from.ours || to.ours ? refuse_pair(from, to, creates) : kept);
}

}  // namespace
}  // namespace larder

using namespace larder;

#define PATH_CALL(name, params, dirfd, path, follow, refuse, ...)            \
  int larder_##name params {                                                 \
    resolve_next();                                                          \
    return guarded(dirfd, path, follow, refuse, [&](int at, const char* p) { \
      (void)at;                                                              \
      return next.name(__VA_ARGS__);                                         \
    });                                                                      \
  }

// unlink is what allocators and loggers may call early; the rest is never called before libc is ready.
PATH_CALL(unlink, (const char* path), AT_FDCWD, path, false, refuse_unlink, p)
PATH_CALL(unlinkat, (int dirfd, const char* path, int flags), dirfd, path, false,
          (flags & AT_REMOVEDIR ? refuse_rmdir : refuse_unlink), at, p, flags)
PATH_CALL(remove, (const char* path), AT_FDCWD, path, false, refuse_rmdir, p)
PATH_CALL(rmdir, (const char* path), AT_FDCWD, path, false, refuse_rmdir, p)
PATH_CALL(mkdir, (const char* path, mode_t mode), AT_FDCWD, path, false, refuse_folder, p, mode)
PATH_CALL(mkdirat, (int dirfd, const char* path, mode_t mode), dirfd, path, false, refuse_folder, at, p, mode)
PATH_CALL(mkfifo, (const char* path, mode_t mode), AT_FDCWD, path, false, refuse_create, p, mode)
PATH_CALL(mkfifoat, (int dirfd, const char* path, mode_t mode), dirfd, path, false, refuse_create, at, p, mode)
PATH_CALL(symlink, (const char* target, const char* path), AT_FDCWD, path, false, refuse_create, target, p)
PATH_CALL(symlinkat, (const char* target, int dirfd, const char* path), dirfd, path, false, refuse_create, target, at,
          p)
PATH_CALL(__xmknod, (int ver, const char* path, mode_t mode, dev_t* dev), AT_FDCWD, path, false, refuse_create, ver, p,
          mode, dev)
PATH_CALL(__xmknodat, (int ver, int dirfd, const char* path, mode_t mode, dev_t* dev), dirfd, path, false,
          refuse_create, ver, at, p, mode, dev)
PATH_CALL(truncate, (const char* path, off_t length), AT_FDCWD, path, true, refuse_truncate, p, length)
PATH_CALL(truncate64, (const char* path, off64_t length), AT_FDCWD, path, true, refuse_truncate, p, length)
PATH_CALL(chmod, (const char* path, mode_t mode), AT_FDCWD, path, true, refuse_change, p, mode)
PATH_CALL(lchmod, (const char* path, mode_t mode), AT_FDCWD, path, false, refuse_change, p, mode)
PATH_CALL(fchmodat, (int dirfd, const char* path, mode_t mode, int flags), dirfd, path, !(flags & AT_SYMLINK_NOFOLLOW),
          refuse_change, at, p, mode, flags)
PATH_CALL(chown, (const char* path, uid_t uid, gid_t gid), AT_FDCWD, path, true, refuse_change, p, uid, gid)
PATH_CALL(lchown, (const char* path, uid_t uid, gid_t gid), AT_FDCWD, path, false, refuse_change, p, uid, gid)
PATH_CALL(fchownat, (int dirfd, const char* path, uid_t uid, gid_t gid, int flags), dirfd, path,
          !(flags & AT_SYMLINK_NOFOLLOW), refuse_change, at, p, uid, gid, flags)
PATH_CALL(utime, (const char* path, const struct utimbuf* times), AT_FDCWD, path, true, refuse_change, p, times)
PATH_CALL(utimes, (const char* path, const struct timeval* times), AT_FDCWD, path, true, refuse_change, p, times)
PATH_CALL(lutimes, (const char* path, const struct timeval* times), AT_FDCWD, path, false, refuse_change, p, times)
PATH_CALL(setxattr, (const char* path, const char* name, const void* value, size_t size, int flags), AT_FDCWD, path,
          true, refuse_change, p, name, value, size, flags)
PATH_CALL(lsetxattr, (const char* path, const char* name, const void* value, size_t size, int flags), AT_FDCWD, path,
          false, refuse_change, p, name, value, size, flags)
PATH_CALL(removexattr, (const char* path, const char* name), AT_FDCWD, path, true, refuse_change, p, name)
PATH_CALL(lremovexattr, (const char* path, const char* name), AT_FDCWD, path, false, refuse_change, p, name)

// glibc before 2.33 has mknod as an inline function only.
PATH_CALL(mknod, (const char* path, mode_t mode, dev_t dev), AT_FDCWD, path, false, refuse_create, p, mode, dev)
PATH_CALL(mknodat, (int dirfd, const char* path, mode_t mode, dev_t dev), dirfd, path, false, refuse_create, at, p,
          mode, dev)

int larder_link(const char* from, const char* to) {
  resolve_next();
  return guarded_pair(AT_FDCWD, from, AT_FDCWD, to, true,
                      [](int, const char* a, int, const char* b) { return next.link(a, b); });
}
int larder_linkat(int fromfd, const char* from, int tofd, const char* to, int flags) {
  resolve_next();
  return guarded_pair(fromfd, from, tofd, to, true,
                      [&](int i, const char* a, int j, const char* b) { return next.linkat(i, a, j, b, flags); });
}
int larder_rename(const char* from, const char* to) {
  resolve_next();
  return guarded_pair(AT_FDCWD, from, AT_FDCWD, to, false,
                      [](int, const char* a, int, const char* b) { return next.rename(a, b); });
}
int larder_renameat(int fromfd, const char* from, int tofd, const char* to) {
  resolve_next();
  return guarded_pair(fromfd, from, tofd, to, false,
                      [](int i, const char* a, int j, const char* b) { return next.renameat(i, a, j, b); });
}
int larder_renameat2(int fromfd, const char* from, int tofd, const char* to, unsigned flags) {
  resolve_next();
  return guarded_pair(fromfd, from, tofd, to, false, [&](int i, const char* a, int j, const char* b) {
    if (next.renameat2) return next.renameat2(i, a, j, b, flags);
    return libc_result<int>(sys::call(SYS_renameat2, i, sys::arg(a), j, sys::arg(b), flags));
  });
}

// ---- temporary names ------------------------------------------------------------------------------------------------
// libc makes the file or folder by itself, relative to a directory of ours if that is the current one.

namespace {

// The name that libc made up is the last component: it goes back into the caller's pattern.
template <typename R, typename Native>
R temporary_elsewhere(Found& f, char* pattern, Native native) {
  R r = native(f.buffer);
  char* theirs = strrchr(pattern, '/');
  const char* made = strrchr(f.buffer, '/');
  if (theirs != nullptr && made != nullptr && strlen(theirs) == strlen(made)) memcpy(theirs, made, strlen(made));
  return r;
}

template <typename R, typename Native>
R temporary(char* pattern, R failed, Native native) {
  resolve_next();
  Scratch<Found> f;
  if (!f || pattern == nullptr) return native(pattern);
  if (route_for_write(AT_FDCWD, pattern, f.get())) return errno = refuse_create(*f.get()), failed;
  if (f->rebased && f->path == f->buffer) return temporary_elsewhere<R>(*f.get(), pattern, native);
  R r = native(pattern);
  if (!failed_missing(r)) return r;
  int error = errno;
  bool ours = may_lead_to_ours(AT_FDCWD, pattern) && route_missing(AT_FDCWD, pattern, false, f.get()) && !f->rebased;
  errno = ours && f->kind != Kind::kNone ? refuse_create(*f.get()) : error;
  return failed;
}

}  // namespace

#define MKSTEMP(name, params, ...)                                                  \
  int larder_##name params {                                                        \
    return temporary(pattern, -1, [&](char* p) { return next.name(__VA_ARGS__); }); \
  }
MKSTEMP(mkstemp, (char* pattern), p)
MKSTEMP(mkstemp64, (char* pattern), p)
MKSTEMP(mkstemps, (char* pattern, int suffix), p, suffix)
MKSTEMP(mkstemps64, (char* pattern, int suffix), p, suffix)
MKSTEMP(mkostemp, (char* pattern, int flags), p, flags)
MKSTEMP(mkostemp64, (char* pattern, int flags), p, flags)
MKSTEMP(mkostemps, (char* pattern, int suffix, int flags), p, suffix, flags)
MKSTEMP(mkostemps64, (char* pattern, int suffix, int flags), p, suffix, flags)
char* larder_mkdtemp(char* pattern) {
  char* made = temporary<char*>(pattern, nullptr, [](char* p) { return next.mkdtemp(p); });
  return made != nullptr ? pattern : nullptr;
}

// ---- descriptors ----------------------------------------------------------------------------------------------------
// The cache files are the daemon's: root, and the daemon's own user, could change their modes and times.

namespace {

template <typename Native>
int guarded_fd(int fd, Native native) {
  struct stat st;
  if (current_state() == nullptr || sys::fstat(fd, &st) != 0 || identify(st).kind == Kind::kNone) return native();
  return fail(sys::fcntl(fd, F_GETFL, 0) & O_PATH ? EBADF : EROFS);
}

template <typename Native>
int guarded_times(int dirfd, const char* path, bool follow, Native native) {
  if (path == nullptr) return guarded_fd(dirfd, [&] { return native(dirfd, path); });
  return guarded(dirfd, path, follow, refuse_change, native);
}

}  // namespace

int larder_utimensat(int dirfd, const char* path, const struct timespec* times, int flags) {
  resolve_next();
  return guarded_times(dirfd, path, !(flags & AT_SYMLINK_NOFOLLOW),
                       [&](int at, const char* p) { return next.utimensat(at, p, times, flags); });
}
int larder_futimesat(int dirfd, const char* path, const struct timeval* times) {
  resolve_next();
  return guarded_times(dirfd, path, true, [&](int at, const char* p) { return next.futimesat(at, p, times); });
}
int larder_futimens(int fd, const struct timespec* times) {
  resolve_next();
  return guarded_fd(fd, [&] { return next.futimens(fd, times); });
}
int larder_futimes(int fd, const struct timeval* times) {
  resolve_next();
  return guarded_fd(fd, [&] { return next.futimes(fd, times); });
}
int larder_fsetxattr(int fd, const char* name, const void* value, size_t size, int flags) {
  resolve_next();
  return guarded_fd(fd, [&] { return next.fsetxattr(fd, name, value, size, flags); });
}
int larder_fremovexattr(int fd, const char* name) {
  resolve_next();
  return guarded_fd(fd, [&] { return next.fremovexattr(fd, name); });
}
int larder_fchmod(int fd, mode_t mode) {
  resolve_next();
  return guarded_fd(fd, [&] { return next.fchmod(fd, mode); });
}
int larder_fchown(int fd, uid_t uid, gid_t gid) {
  resolve_next();
  return guarded_fd(fd, [&] { return next.fchown(fd, uid, gid); });
}
