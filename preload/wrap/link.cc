// readlink and realpath. Datasets hold no symlinks; links outside may lead into them, and /proc/self/fd/N names cache
// files.
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "preload/base/next.h"
#include "preload/base/sys.h"
#include "preload/resolve/dispatch.h"

namespace larder {
namespace {

int not_a_link(const Lookup& f) {
  return fail(f.kind == Kind::kMissing ? f.error : EINVAL);
}

bool names_descriptor(const char* path) {
  return path != nullptr && (strncmp(path, "/proc/", 6) == 0 || strncmp(path, "/dev/fd/", 8) == 0);
}

// A magic link to a dataset's file or directory shows the path in the dataset, not in the cache.
ssize_t translated(ssize_t r, int dirfd, const char* path, char* buf, size_t size) {
  struct stat st;
  if (r <= 0 || !names_descriptor(path) || current_state() == nullptr) return r;
  if (sys::fstatat(dirfd, path, &st, 0) != 0) return r;
  Identity id = identify(st);
  if (id.kind == Kind::kNone) return r;
  struct Text {
    char path[PATH_MAX + 1];
  };
  Scratch<Text> text;
  if (!text) return r;
  long n = id.kind == Kind::kFile ? file_path(id, text->path) : directory_path(id, text->path);
  if (n < 0) return r;
  size_t len = static_cast<size_t>(n) < size ? static_cast<size_t>(n) : size;
  memcpy(buf, text->path, len);
  if (static_cast<size_t>(r) > len)
    memset(buf + len, 0, static_cast<size_t>(r) - len);  // callers rely on a zeroed buffer
  return static_cast<ssize_t>(len);
}

template <typename Native>
ssize_t readlink_wrapper(int dirfd, const char* path, char* buf, size_t size, Native native) {
  return dispatch(
      dirfd, path, false, [](Found& f) -> ssize_t { return not_a_link(f); },
      [&](int at, const char* p) -> ssize_t { return translated(native(at, p), at, p, buf, size); });
}

ssize_t raw_readlink(int dirfd, const char* path, char* buf, size_t size) {
  return libc_result<ssize_t>(sys::readlinkat(dirfd, path, buf, size));
}

// f.path contains no symlink: a mount point covers the disk, and there are none below it.
char* canonical(Found& f, char* resolved) {
  if (f.kind == Kind::kMissing) return errno = f.error, nullptr;
  if (f.path_len >= PATH_MAX) return errno = ENAMETOOLONG, nullptr;
  if (resolved == nullptr) resolved = static_cast<char*>(malloc(f.path_len + 1));
  if (resolved != nullptr) memcpy(resolved, f.path, f.path_len), resolved[f.path_len] = 0;
  return resolved;
}

template <typename Native>
char* realpath_wrapper(const char* path, char* resolved, Native native) {
  resolve_next();
  return dispatch(
      AT_FDCWD, path, true, [&](Found& f) { return canonical(f, resolved); }, native);
}

}  // namespace
}  // namespace larder

using namespace larder;

ssize_t larder_readlink(const char* path, char* buf, size_t size) {
  return readlink_wrapper(AT_FDCWD, path, buf, size, [&](int at, const char* p) {
    return next.readlink ? next.readlink(p, buf, size) : raw_readlink(at, p, buf, size);
  });
}
ssize_t larder_readlinkat(int dirfd, const char* path, char* buf, size_t size) {
  return readlink_wrapper(dirfd, path, buf, size, [&](int at, const char* p) {
    return next.readlinkat ? next.readlinkat(at, p, buf, size) : raw_readlink(at, p, buf, size);
  });
}
ssize_t larder___readlink_chk(const char* path, char* buf, size_t size, size_t buflen) {
  return readlink_wrapper(AT_FDCWD, path, buf, size, [&](int at, const char* p) {
    return next.__readlink_chk ? next.__readlink_chk(p, buf, size, buflen) : raw_readlink(at, p, buf, size);
  });
}
ssize_t larder___readlinkat_chk(int dirfd, const char* path, char* buf, size_t size, size_t buflen) {
  return readlink_wrapper(dirfd, path, buf, size, [&](int at, const char* p) {
    return next.__readlinkat_chk ? next.__readlinkat_chk(at, p, buf, size, buflen) : raw_readlink(at, p, buf, size);
  });
}

char* larder_realpath(const char* path, char* resolved) {
  return realpath_wrapper(path, resolved, [&](int, const char* p) { return next.realpath(p, resolved); });
}
char* larder___realpath_chk(const char* path, char* resolved, size_t resolvedlen) {
  return realpath_wrapper(path, resolved,
                          [&](int, const char* p) { return next.__realpath_chk(p, resolved, resolvedlen); });
}
char* larder_canonicalize_file_name(const char* path) {
  return realpath_wrapper(path, nullptr, [&](int, const char* p) { return next.canonicalize_file_name(p); });
}
