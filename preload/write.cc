// Calls that would change something: EROFS on a dataset, with the errors that a read-only file system gives before it.
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "preload/next.h"
#include "preload/route.h"
#include "preload/sys.h"

namespace larder {
namespace {

// What a read-only file system says to each class of call.
int refuse_change(const Found& f) { return f.kind == Kind::kMissing ? f.error : EROFS; }  // chmod, utime, truncate, setxattr
int refuse_create(const Found& f) {                                                      // mkdir, symlink, mknod, link
  if (f.kind != Kind::kMissing) return EEXIST;
  return f.error == ENOENT ? EROFS : f.error;
}
int refuse_remove(const Found& f) {  // unlink, rmdir: refused before the last component is looked at
  return f.kind == Kind::kMissing && f.error != ENOENT ? f.error : EROFS;
}

// The kernel must not try in a directory of ours first: as root it would succeed, in the cache.
template <typename Refuse, typename Native>
int guarded(int dirfd, const char*& path, bool follow, Refuse refuse, Native native) {
  const int before = errno;
  {
    Found f;
    if (route_for_write(dirfd, path, &f)) return fail(refuse(f));
    if (f.left) return static_cast<int>(native_at(f, path, native));
  }
  auto r = native();
  if (__builtin_expect(failed_missing(r), 0)) {
    return dispatch_missing(dirfd, path, follow, before, static_cast<int>(r), [&](Found& f) { return fail(refuse(f)); });
  }
  return static_cast<int>(r);
}

// rename and link: EXDEV between two file systems, which cp and mv take as "copy, then".
template <typename Native>
__attribute__((noinline)) int native_pair(int fd1, const char*& from, int fd2, const char*& to, Native native) {
  Scratch<Found> a, b;
  if (!a || !b) return fail(ENOMEM);
  if (!route_for_write(fd1, from, a.get()) && a->left) from = a->path;
  if (!route_for_write(fd2, to, b.get()) && b->left) to = b->path;
  return native();
}

template <typename Native>
int guarded_pair(int fd1, const char*& from, int fd2, const char*& to, bool creates, Native native) {
  {
    Found a;
    bool a_ours = route_for_write(fd1, from, &a);
    uint64_t a_dev = a.dev;
    if (a_ours && a.kind == Kind::kMissing && (a.error != ENOENT || creates)) return fail(a.error);
    bool left = a.left;
    a.left = false;
    bool b_ours = route_for_write(fd2, to, &a);
    if (a_ours != b_ours) return fail(b_ours && a.kind == Kind::kMissing && a.error != ENOENT ? a.error : EXDEV);
    if (a_ours) return fail(a_dev != a.dev ? EXDEV : creates && a.kind != Kind::kMissing ? EEXIST : EROFS);
    if (!left && !a.left) return native();
  }
  return native_pair(fd1, from, fd2, to, native);
}

long checked(long r) { return r < 0 && r > -4096 && r != -1 ? fail(static_cast<int>(-r)) : r; }

}  // namespace
}  // namespace larder

using namespace larder;

#define PATH_CALL(name, params, dirfd, path, follow, refuse, ...)                                     \
  int larder_##name params {                                                                          \
    resolve_next();                                                                                   \
    return guarded(dirfd, path, follow, refuse, [&] { return next.name(__VA_ARGS__); });              \
  }

// unlink is what allocators and loggers may call early; the rest is never called before libc is ready.
PATH_CALL(unlink, (const char* path), AT_FDCWD, path, false, refuse_remove, path)
PATH_CALL(unlinkat, (int dirfd, const char* path, int flags), dirfd, path, false, refuse_remove, dirfd, path, flags)
PATH_CALL(remove, (const char* path), AT_FDCWD, path, false, refuse_remove, path)
PATH_CALL(rmdir, (const char* path), AT_FDCWD, path, false, refuse_remove, path)
PATH_CALL(mkdir, (const char* path, mode_t mode), AT_FDCWD, path, false, refuse_create, path, mode)
PATH_CALL(mkdirat, (int dirfd, const char* path, mode_t mode), dirfd, path, false, refuse_create, dirfd, path, mode)
PATH_CALL(mkfifo, (const char* path, mode_t mode), AT_FDCWD, path, false, refuse_create, path, mode)
PATH_CALL(mkfifoat, (int dirfd, const char* path, mode_t mode), dirfd, path, false, refuse_create, dirfd, path, mode)
PATH_CALL(symlink, (const char* target, const char* path), AT_FDCWD, path, false, refuse_create, target, path)
PATH_CALL(symlinkat, (const char* target, int dirfd, const char* path), dirfd, path, false, refuse_create, target, dirfd, path)
PATH_CALL(__xmknod, (int ver, const char* path, mode_t mode, dev_t* dev), AT_FDCWD, path, false, refuse_create, ver, path, mode, dev)
PATH_CALL(__xmknodat, (int ver, int dirfd, const char* path, mode_t mode, dev_t* dev), dirfd, path, false, refuse_create, ver, dirfd, path, mode, dev)
PATH_CALL(truncate, (const char* path, off_t length), AT_FDCWD, path, true, refuse_change, path, length)
PATH_CALL(truncate64, (const char* path, off64_t length), AT_FDCWD, path, true, refuse_change, path, length)
PATH_CALL(chmod, (const char* path, mode_t mode), AT_FDCWD, path, true, refuse_change, path, mode)
PATH_CALL(lchmod, (const char* path, mode_t mode), AT_FDCWD, path, false, refuse_change, path, mode)
PATH_CALL(fchmodat, (int dirfd, const char* path, mode_t mode, int flags), dirfd, path, !(flags & AT_SYMLINK_NOFOLLOW), refuse_change, dirfd, path, mode, flags)
PATH_CALL(chown, (const char* path, uid_t uid, gid_t gid), AT_FDCWD, path, true, refuse_change, path, uid, gid)
PATH_CALL(lchown, (const char* path, uid_t uid, gid_t gid), AT_FDCWD, path, false, refuse_change, path, uid, gid)
PATH_CALL(fchownat, (int dirfd, const char* path, uid_t uid, gid_t gid, int flags), dirfd, path, !(flags & AT_SYMLINK_NOFOLLOW), refuse_change, dirfd, path, uid, gid, flags)
PATH_CALL(utime, (const char* path, const struct utimbuf* times), AT_FDCWD, path, true, refuse_change, path, times)
PATH_CALL(utimes, (const char* path, const struct timeval* times), AT_FDCWD, path, true, refuse_change, path, times)
PATH_CALL(lutimes, (const char* path, const struct timeval* times), AT_FDCWD, path, false, refuse_change, path, times)
PATH_CALL(setxattr, (const char* path, const char* name, const void* value, size_t size, int flags), AT_FDCWD, path, true, refuse_change, path, name, value, size, flags)
PATH_CALL(lsetxattr, (const char* path, const char* name, const void* value, size_t size, int flags), AT_FDCWD, path, false, refuse_change, path, name, value, size, flags)
PATH_CALL(removexattr, (const char* path, const char* name), AT_FDCWD, path, true, refuse_change, path, name)
PATH_CALL(lremovexattr, (const char* path, const char* name), AT_FDCWD, path, false, refuse_change, path, name)

// glibc before 2.33 has mknod as an inline function only.
PATH_CALL(mknod, (const char* path, mode_t mode, dev_t dev), AT_FDCWD, path, false, refuse_create, path, mode, dev)
PATH_CALL(mknodat, (int dirfd, const char* path, mode_t mode, dev_t dev), dirfd, path, false, refuse_create, dirfd, path, mode, dev)

int larder_link(const char* from, const char* to) {
  resolve_next();
  return guarded_pair(AT_FDCWD, from, AT_FDCWD, to, true, [&] { return next.link(from, to); });
}
int larder_linkat(int fromfd, const char* from, int tofd, const char* to, int flags) {
  resolve_next();
  return guarded_pair(fromfd, from, tofd, to, true, [&] { return next.linkat(fromfd, from, tofd, to, flags); });
}
int larder_rename(const char* from, const char* to) {
  resolve_next();
  return guarded_pair(AT_FDCWD, from, AT_FDCWD, to, false, [&] { return next.rename(from, to); });
}
int larder_renameat(int fromfd, const char* from, int tofd, const char* to) {
  resolve_next();
  return guarded_pair(fromfd, from, tofd, to, false, [&] { return next.renameat(fromfd, from, tofd, to); });
}
int larder_renameat2(int fromfd, const char* from, int tofd, const char* to, unsigned flags) {
  resolve_next();
  return guarded_pair(fromfd, from, tofd, to, false, [&] {
    if (next.renameat2) return next.renameat2(fromfd, from, tofd, to, flags);
    return static_cast<int>(checked(sys::call(SYS_renameat2, fromfd, sys::arg(from), tofd, sys::arg(to), flags)));
  });
}

// ---- temporary names ------------------------------------------------------------------------------------------------
// libc tries names by itself. In a folder of ours there is none to have: EROFS, or what is wrong with the folder.

namespace {

template <typename R, typename Native>
R temporary(char* pattern, R failed, Native native) {
  resolve_next();
  {
    Found f;
    if (pattern != nullptr && route_for_write(AT_FDCWD, pattern, &f)) return errno = refuse_create(f), failed;
  }
  R r = native();
  if (__builtin_expect(!failed_missing(r), 1)) return r;
  const char* path = pattern;
  int error = errno;
  if (!may_lead_to_ours(AT_FDCWD, path)) return errno = error, r;
  Scratch<Found> f;
  bool ours = f && route_missing(AT_FDCWD, path, false, f.get());
  errno = ours ? refuse_create(*f.get()) : error;
  return failed;
}

}  // namespace

#define MKSTEMP(name, params, ...) \
  int larder_##name params { return temporary(pattern, -1, [&] { return next.name(__VA_ARGS__); }); }
MKSTEMP(mkstemp, (char* pattern), pattern)
MKSTEMP(mkstemp64, (char* pattern), pattern)
MKSTEMP(mkstemps, (char* pattern, int suffix), pattern, suffix)
MKSTEMP(mkstemps64, (char* pattern, int suffix), pattern, suffix)
MKSTEMP(mkostemp, (char* pattern, int flags), pattern, flags)
MKSTEMP(mkostemp64, (char* pattern, int flags), pattern, flags)
MKSTEMP(mkostemps, (char* pattern, int suffix, int flags), pattern, suffix, flags)
MKSTEMP(mkostemps64, (char* pattern, int suffix, int flags), pattern, suffix, flags)
char* larder_mkdtemp(char* pattern) {
  return temporary<char*>(pattern, nullptr, [&] { return next.mkdtemp(pattern); });
}

// ---- descriptors ----------------------------------------------------------------------------------------------------
// The cache files are the daemon's: root, and the daemon's own user, could change their modes and times.

namespace {

template <typename Native>
int guarded_fd(int fd, Native native) {
  struct stat st;
  if (current_state() != nullptr && sys::fstat(fd, &st) == 0 && identify(st).kind != Kind::kNone) return fail(EROFS);
  return native();
}

template <typename Native>
int guarded_times(int dirfd, const char*& path, bool follow, Native native) {
  if (path == nullptr) return guarded_fd(dirfd, native);
  return guarded(dirfd, path, follow, refuse_change, native);
}

}  // namespace

int larder_utimensat(int dirfd, const char* path, const struct timespec* times, int flags) {
  resolve_next();
  return guarded_times(dirfd, path, !(flags & AT_SYMLINK_NOFOLLOW), [&] { return next.utimensat(dirfd, path, times, flags); });
}
int larder_futimesat(int dirfd, const char* path, const struct timeval* times) {
  resolve_next();
  return guarded_times(dirfd, path, true, [&] { return next.futimesat(dirfd, path, times); });
}
int larder_futimens(int fd, const struct timespec* times) {
  resolve_next();
  return guarded_fd(fd, [&] { return next.futimens(fd, times); });
}
int larder_futimes(int fd, const struct timeval* times) {
  resolve_next();
  return guarded_fd(fd, [&] { return next.futimes(fd, times); });
}
int larder_fchmod(int fd, mode_t mode) {
  resolve_next();
  return guarded_fd(fd, [&] { return next.fchmod(fd, mode); });
}
int larder_fchown(int fd, uid_t uid, gid_t gid) {
  resolve_next();
  return guarded_fd(fd, [&] { return next.fchown(fd, uid, gid); });
}
