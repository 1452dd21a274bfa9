// getdents64(2) and getdirentries(3): entries of a folder by its descriptor, many at a time.
#include <errno.h>
#include <string.h>

#include "preload/base/next.h"
#include "preload/base/sys.h"
#include "preload/wrap/directory_stream.h"

using namespace larder;

namespace {

long raw_getdents(int fd, void* buffer, size_t size) {
  return libc_result(sys::call(SYS_getdents64, fd, sys::arg(buffer), static_cast<long>(size)));
}

// As many entries as there is room for: bytes, or -1 and EINVAL if the next one needs more room. The stream then stands
// behind the last entry that is in the buffer.
long fill(DirectoryStream* s, void* buffer, size_t size) {
  size_t filled = 0;
  uint64_t done = s->pos;
  bool more = read_entry(s, &s->entry);
  while (more && filled + s->entry.d_reclen <= size) {
    memcpy(static_cast<char*>(buffer) + filled, &s->entry, s->entry.d_reclen);
    filled += s->entry.d_reclen;
    done = s->pos;
    more = read_entry(s, &s->entry);
  }
  s->pos = done;
  return filled == 0 && more ? fail(EINVAL) : static_cast<long>(filled);
}

// Where we are is kept where the kernel keeps it: in the offset of the mirror directory's descriptor.
long list_descriptor(const Identity& id, int fd, void* buffer, size_t size) {
  char path[PATH_MAX];
  Scratch<Found> f;
  const long at = sys::lseek(fd, 0, SEEK_CUR);
  if (at < 0) return fail(static_cast<int>(-at));  // O_PATH: EBADF
  long n = directory_path(id, path);
  if (n < 0 || !f) return fail(n < 0 ? static_cast<int>(-n) : ENOMEM);
  if (!route_missing(AT_FDCWD, path, true, f.get())) return fail(ENOENT);
  DirectoryStream* s = our_stream(open_directory_stream(*f.get(), -1));
  if (s == nullptr) return -1;
  seek_stream(s, static_cast<uint64_t>(at));
  const long filled = fill(s, buffer, size);
  sys::lseek(fd, static_cast<long>(s->pos), SEEK_SET);
  close_stream(s);
  return filled;
}

}  // namespace

// To the kernel the handle of a lazy file is a directory, and listing it would move the file's position: so what it is
// is asked before the kernel is.
ssize_t larder_getdents64(int fd, void* buffer, size_t size) {
  const Identity id = identify_fd(fd);
  if (id.kind == Kind::kFile) return fail(sys::fcntl(fd, F_GETFL, 0) & O_PATH ? EBADF : ENOTDIR);
  if (id.kind != Kind::kNone) return list_descriptor(id, fd, buffer, size);
  return next.getdents64 ? next.getdents64(fd, buffer, size) : raw_getdents(fd, buffer, size);
}

#if defined(__x86_64__)
long larder::old_getdents(int fd, void* buffer, unsigned size) {
  if (identify_fd(fd).kind == Kind::kFile) return fail(ENOTDIR);
  return libc_result(sys::call(SYS_getdents, fd, sys::arg(buffer), size));
}
#endif

#define GETDIRENTRIES(name, offset)                                                    \
  ssize_t larder_##name(int fd, char* buffer, size_t size, offset* base) {             \
    resolve_next();                                                                    \
    if (identify_fd(fd).kind == Kind::kNone) return next.name(fd, buffer, size, base); \
    long at = sys::lseek(fd, 0, SEEK_CUR);                                             \
    if (at < 0) return fail(static_cast<int>(-at));                                    \
    ssize_t n = larder_getdents64(fd, buffer, size);                                   \
    if (n >= 0) *base = at;                                                            \
    return n;                                                                          \
  }
GETDIRENTRIES(getdirentries, off_t)
GETDIRENTRIES(getdirentries64, off64_t)
