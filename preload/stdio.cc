// fopen and freopen: libc opens the file by itself, without asking open(). We open it and hand libc the descriptor.
#include <errno.h>
#include <string.h>

#include "preload/next.h"
#include "preload/open.h"
#include "preload/sys.h"

namespace larder {
namespace {

// Flags of a stdio mode, or -1 if it is none.
int parse_mode(const char* mode) {
  int flags;
  switch (mode[0]) {
    case 'r': flags = O_RDONLY; break;
    case 'w': flags = O_WRONLY | O_CREAT | O_TRUNC; break;
    case 'a': flags = O_WRONLY | O_CREAT | O_APPEND; break;
    default: return -1;
  }
  for (const char* m = mode + 1; *m != 0 && *m != ','; ++m) {
    if (*m == '+') flags = (flags & ~O_ACCMODE) | O_RDWR;
    if (*m == 'e') flags |= O_CLOEXEC;
    if (*m == 'x') flags |= O_EXCL;
  }
  return flags;
}

FILE* open_stream(Found& f, const char* mode) {
  int flags = mode != nullptr ? parse_mode(mode) : -1;
  if (flags < 0) {
    errno = EINVAL;
    return nullptr;
  }
  int fd = open_found(f, flags);
  if (fd < 0) {
    errno = -fd;
    return nullptr;
  }
  FILE* stream;
  if (strchr(mode, ',') != nullptr) {  // ",ccs=": only fopen knows it
    char path[32];
    sys::fd_path(fd, path);
    stream = next.fopen(path, mode);
    int error = errno;
    sys::close(fd);
    errno = error;
    return stream;
  }
  stream = ::fdopen(fd, mode);
  if (stream == nullptr) {
    int error = errno;
    sys::close(fd);
    errno = error;
  }
  return stream;
}

template <typename Native>
FILE* fopen_wrapper(const char* path, const char* mode, Native native) {
  if (mode != nullptr && mode[0] != 'r') {
    Found f;
    if (route_for_write(AT_FDCWD, path, &f)) return open_stream(f, mode);
  }
  return dispatch(
      AT_FDCWD, path, true, [&](Found& f) { return open_stream(f, mode); }, native);
}

FILE* reopen_stream(Found& f, const char* mode, FILE* stream, FILE* (*real)(const char*, const char*, FILE*)) {
  int flags = mode != nullptr ? parse_mode(mode) : -1;
  int fd = flags < 0 ? -EINVAL : open_found(f, flags & ~O_CLOEXEC);
  if (fd < 0) {
    ::fclose(stream);  // as freopen does when it fails
    errno = -fd;
    return nullptr;
  }
  char path[32];
  sys::fd_path(fd, path);
  FILE* result = real(path, mode, stream);
  int error = errno;
  sys::close(fd);
  errno = error;
  return result;
}

template <typename Real>
FILE* freopen_wrapper(const char* path, const char* mode, FILE* stream, Real real) {
  Found f;
  if (path != nullptr && maybe_ours(AT_FDCWD, path) && route(AT_FDCWD, path, &f)) return reopen_stream(f, mode, stream, real);
  if (f.rebased) path = f.path;
  // A failed freopen closes the stream: what the kernel does not know must be found out before.
  struct stat st;
  if (path != nullptr && path[0] != 0 && current_state() != nullptr && sys::fstatat(AT_FDCWD, path, &st, 0) == -ENOENT) {
    Scratch<Found> late;
    if (late && route_missing(AT_FDCWD, path, true, late.get())) return reopen_stream(*late.get(), mode, stream, real);
  }
  return real(path, mode, stream);
}

}  // namespace
}  // namespace larder

using namespace larder;

#define FOPEN(name)                                                  \
  FILE* larder_##name(const char* path, const char* mode) {          \
    resolve_next();                                                  \
    return fopen_wrapper(path, mode, [&](int, const char* p) { return next.name(p, mode); }); \
  }
FOPEN(fopen)
FOPEN(fopen64)
FOPEN(_IO_fopen)

#define FREOPEN(name)                                                       \
  FILE* larder_##name(const char* path, const char* mode, FILE* stream) {   \
    resolve_next();                                                         \
    return freopen_wrapper(path, mode, stream, next.name);                  \
  }
FREOPEN(freopen)
FREOPEN(freopen64)
