// fopen and freopen: libc opens the file internally, without calling open(). So the library opens it and gives libc the
// descriptor.
#include <errno.h>
#include <string.h>

#include "preload/base/next.h"
#include "preload/base/sys.h"
#include "preload/lazy/lazy_read.h"
#include "preload/wrap/open.h"
#include "preload/wrap/read.h"

namespace larder {
namespace {

// Flags of a stdio mode, or -1 if it is not valid.
int parse_mode(const char* mode) {
  int flags;
  switch (mode[0]) {
    case 'r':
      flags = O_RDONLY;
      break;
    case 'w':
      flags = O_WRONLY | O_CREAT | O_TRUNC;
      break;
    case 'a':
      flags = O_WRONLY | O_CREAT | O_APPEND;
      break;
    default:
      return -1;
  }
  for (const char* m = mode + 1; *m != 0 && *m != ','; ++m) {
    if (*m == '+') flags = (flags & ~O_ACCMODE) | O_RDWR;
    if (*m == 'e') flags |= O_CLOEXEC;
    if (*m == 'x') flags |= O_EXCL;
  }
  return flags;
}

// ---- streams of lazy objects ----------------------------------------------------------------------------------------
// libc reads its streams without calling read(). A cookie stream calls the library; it is given its descriptor, so that
// fileno() is right.

int cookie_fd(void* cookie) {
  return static_cast<int>(reinterpret_cast<intptr_t>(cookie));
}

ssize_t cookie_read(void* cookie, char* buffer, size_t size) {
  return larder_read(cookie_fd(cookie), buffer, size);
}

int cookie_seek(void* cookie, off64_t* offset, int whence) {
  const off64_t r = larder_lseek64(cookie_fd(cookie), *offset, whence);
  if (r < 0) return -1;
  *offset = r;
  return 0;
}

int cookie_close(void* cookie) {
  return larder_close(cookie_fd(cookie));
}

bool is_lazy(int fd) {
  struct stat st;
  return current_state() != nullptr && sys::fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) && identify(st).lazy;
}

FILE* lazy_stream(int fd, const char* mode) {
  if (mode[0] != 'r' || strchr(mode, '+') != nullptr) return errno = EINVAL, nullptr;
  cookie_io_functions_t calls = {cookie_read, nullptr, cookie_seek, cookie_close};
  FILE* stream = ::fopencookie(reinterpret_cast<void*>(static_cast<intptr_t>(fd)), "r", calls);
  if (stream == nullptr) return nullptr;
  stream->_fileno = fd;
  forget_wide(stream);
  return stream;
}

// The object as a whole file, in place of the handle at `fd`, for streams that only libc can make: a descriptor, or
// -errno (-EFBIG: it cannot fit in the cache).
int whole_instead(int fd) {
  Lazy lazy;
  const int whole = find_lazy(fd, &lazy) == 0 ? open_whole(lazy) : -EIO;
  sys::close(fd);
  return whole;
}

FILE* open_stream(Found& f, const char* mode) {
  int flags = mode != nullptr ? parse_mode(mode) : -1;
  if (flags < 0) {
    errno = EINVAL;
    return nullptr;
  }
  const bool encoded = flags >= 0 && strchr(mode, ',') != nullptr;  // ",ccs=": only fopen knows it
  int fd = open_found(f, flags);
  if (fd >= 0 && encoded && is_lazy(fd)) fd = whole_instead(fd);
  if (fd < 0) {
    errno = -fd;
    return nullptr;
  }
  FILE* stream;
  if (is_lazy(fd)) {
    stream = lazy_stream(fd, mode);
    if (stream == nullptr) {
      const int error = errno;
      sys::close(fd);
      errno = error;
    }
    return stream;
  }
  if (encoded) {
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
  // The stream's own buffer and descriptor stay libc's, which would get EISDIR from a handle: the object must be whole.
  if (is_lazy(fd)) {
    fd = whole_instead(fd);
    if (fd < 0) {
      ::fclose(stream);
      errno = -fd;
      return nullptr;
    }
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
  if (path != nullptr && maybe_ours(AT_FDCWD, path) && route(AT_FDCWD, path, &f))
    return reopen_stream(f, mode, stream, real);
  if (f.rebased) path = f.path;
  // A failed freopen closes the stream, so paths that the kernel does not know must be resolved before.
  struct stat st;
  if (path != nullptr && path[0] != 0 && current_state() != nullptr &&
      sys::fstatat(AT_FDCWD, path, &st, 0) == -ENOENT) {
    Scratch<Found> late;
    if (late && route_missing(AT_FDCWD, path, true, late.get())) return reopen_stream(*late.get(), mode, stream, real);
  }
  return real(path, mode, stream);
}

}  // namespace

void replace_stdin() {
  struct stat st;
  if (sys::fstat(0, &st) != 0 || !S_ISDIR(st.st_mode) || !is_lazy(0)) return;
  auto** in = static_cast<FILE**>(program_symbol("stdin"));
  FILE* stream = in != nullptr ? lazy_stream(0, "r") : nullptr;
  if (stream != nullptr) *in = stream;
}

}  // namespace larder

using namespace larder;

#define FOPEN(name)                                                                           \
  FILE* larder_##name(const char* path, const char* mode) {                                   \
    resolve_next();                                                                           \
    return fopen_wrapper(path, mode, [&](int, const char* p) { return next.name(p, mode); }); \
  }
FOPEN(fopen)
FOPEN(fopen64)
FOPEN(_IO_fopen)

#define FDOPEN(name)                                                  \
  FILE* larder_##name(int fd, const char* mode) {                     \
    resolve_next();                                                   \
    if (mode != nullptr && is_lazy(fd)) return lazy_stream(fd, mode); \
    return next.name(fd, mode);                                       \
  }
FDOPEN(fdopen)
FDOPEN(_IO_fdopen)

#define FREOPEN(name)                                                     \
  FILE* larder_##name(const char* path, const char* mode, FILE* stream) { \
    resolve_next();                                                       \
    return freopen_wrapper(path, mode, stream, next.name);                \
  }
FREOPEN(freopen)
FREOPEN(freopen64)
