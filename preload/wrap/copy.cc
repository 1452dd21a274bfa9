// sendfile, copy_file_range and splice out of lazy objects, and hints. The kernel would send absent pages, and pages
// that go while they are sent, as zeros. So the library reads and checks the bytes before it sends them.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "preload/base/next.h"
#include "preload/base/sys.h"
#include "preload/lazy/handle_hints.h"
#include "preload/wrap/read.h"

namespace larder {
namespace {

constexpr size_t kBounce = 256 * 1024;

// Memory for one call: a mapping, since wrappers may run on small stacks.
class Bounce {
 public:
  Bounce() : base_(sys::mmap(nullptr, kBounce, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {}
  ~Bounce() { free(); }
  void free() {
    if (base_ != nullptr) sys::munmap(base_, kBounce);
    base_ = nullptr;
  }
  Bounce(const Bounce&) = delete;
  Bounce& operator=(const Bounce&) = delete;
  char* get() const { return static_cast<char*>(base_); }

 private:
  void* base_;
};

// Writes the bytes at `offset` of the object with `put(buffer, size)`, which returns bytes or -errno, and tells each
// step's bytes to `moved`. Returns bytes, or -errno if there are none. Nothing is held while it waits for chunks.
template <typename Put, typename Moved>
ssize_t pump(Lazy& lazy, uint64_t offset, size_t size, Put put, Moved moved) {
  if (offset >= lazy.size) return 0;
  if (size > lazy.size - offset) size = lazy.size - offset;
  ChunkWait chunks;
  size_t done = 0;
  while (done < size) {
    Bounce bounce;
    if (bounce.get() == nullptr) return done > 0 ? static_cast<ssize_t>(done) : -ENOMEM;
    ssize_t n = 0;
    while (done < size) {
      n = lazy_pread_present(lazy, bounce.get(), size - done < kBounce ? size - done : kBounce, offset + done);
      if (n <= 0) break;
      const long put_n = put(bounce.get(), static_cast<size_t>(n));
      if (put_n < 0) return done > 0 ? static_cast<ssize_t>(done) : put_n;
      moved(put_n);
      done += static_cast<size_t>(put_n);
      chunks.went_on();
      if (put_n < n) return static_cast<ssize_t>(done);
    }
    bounce.free();
    if (n == 0 && done < size) n = chunks.wait(lazy, offset + done, size - done);
    if (n < 0) return done > 0 ? static_cast<ssize_t>(done) : n;
  }
  return static_cast<ssize_t>(done);
}

// From an offset that the caller keeps, or from the handle's position. The position moves with each step and, as the
// kernel does it for these calls, without a claim: two at once may send the same bytes.
template <typename Offset, typename Put>
ssize_t pump_from(int in, Lazy& lazy, Offset* at, size_t size, Put put) {
  if (size > 0x7ffff000) size = 0x7ffff000;
  if (at != nullptr) {
    if (*at < 0) return -EINVAL;
    return pump(lazy, static_cast<uint64_t>(*at), size, put, [at](long n) { *at += n; });
  }
  const long here = sys::lseek(in, 0, SEEK_CUR);
  if (here < 0) return here;
  return pump(lazy, static_cast<uint64_t>(here), size, put, [in](long n) { sys::lseek(in, n, SEEK_CUR); });
}

// The kernel's errors for a directory as the source: EISDIR, EINVAL, and EOVERFLOW from sendfile.
bool refused(ssize_t r) {
  return r < 0 && (errno == EISDIR || errno == EINVAL || errno == EOVERFLOW);
}

long write_out(int out, const char* buffer, size_t size) {
  long r;
  do
    r = sys::call(SYS_write, out, sys::arg(buffer), static_cast<long>(size));
  while (r == -EINTR);
  return r;
}

template <typename Offset>
ssize_t lazy_sendfile(int out, int in, Lazy& lazy, Offset* offset, size_t size) {
  return pump_from(in, lazy, offset, size, [&](const char* b, size_t n) { return write_out(out, b, n); });
}

ssize_t lazy_copy_range(int in, Lazy& lazy, off64_t* in_offset, int out, off64_t* out_offset, size_t size,
                        unsigned flags) {
  if (flags != 0) return -EINVAL;
  return pump_from(in, lazy, in_offset, size, [&](const char* b, size_t n) -> long {
    if (out_offset == nullptr) return write_out(out, b, n);
    const long r = sys::call(SYS_pwrite64, out, sys::arg(b), static_cast<long>(n), *out_offset);
    if (r > 0) *out_offset += r;
    return r;
  });
}

// Into a pipe: as much as it takes without waiting for a reader a second time.
ssize_t lazy_splice(int in, Lazy& lazy, off64_t* in_offset, int out, off64_t* out_offset, size_t size, unsigned flags) {
  if (out_offset != nullptr) return -ESPIPE;
  struct stat st;
  if (sys::fstat(out, &st) != 0) return -EBADF;
  if (!S_ISFIFO(st.st_mode)) return -EINVAL;
  const bool wait = (flags & SPLICE_F_NONBLOCK) == 0;
  if (sys::wait_fd(out, POLLOUT, wait ? 3600'000 : 0) == 0) return -EAGAIN;
  const size_t most = 4096;  // PIPE_BUF: what a pipe that polls writable takes at once
  return pump_from(in, lazy, in_offset, size < most ? size : most,
                   [&](const char* b, size_t n) { return write_out(out, b, n); });
}

}  // namespace
}  // namespace larder

using namespace larder;

#define SENDFILE(name, type)                                                                         \
  ssize_t larder_##name(int out, int in, type* offset, size_t size) {                                \
    resolve_next();                                                                                  \
    const ssize_t r = next.name(out, in, offset, size);                                              \
    if (!refused(r)) return r;                                                                       \
    return on_handle(in, r, [&](Lazy& lazy) { return lazy_sendfile(out, in, lazy, offset, size); }); \
  }
SENDFILE(sendfile, off_t)
SENDFILE(sendfile64, off64_t)

ssize_t larder_copy_file_range(int in, off64_t* in_offset, int out, off64_t* out_offset, size_t size, unsigned flags) {
  resolve_next();
  ssize_t r;
  if (next.copy_file_range) {
    r = next.copy_file_range(in, in_offset, out, out_offset, size, flags);
  } else {
    r = libc_result(sys::call(SYS_copy_file_range, in, sys::arg(in_offset), out, sys::arg(out_offset),
                              static_cast<long>(size), flags));
  }
  if (!refused(r)) return r;
  const bool into_folder = errno == EISDIR;
  const ssize_t copied =
      on_handle(in, r, [&](Lazy& lazy) { return lazy_copy_range(in, lazy, in_offset, out, out_offset, size, flags); });
  if (copied < 0 && into_folder && errno == EISDIR && identify_fd(out).lazy)
    return fail(EBADF);  // not open for writing
  return copied;
}

ssize_t larder_splice(int in, off64_t* in_offset, int out, off64_t* out_offset, size_t size, unsigned flags) {
  resolve_next();
  const ssize_t r = next.splice(in, in_offset, out, out_offset, size, flags);
  if (!refused(r)) return r;
  return on_handle(in, r, [&](Lazy& lazy) { return lazy_splice(in, lazy, in_offset, out, out_offset, size, flags); });
}

ssize_t larder_readahead(int fd, off64_t offset, size_t size) {
  resolve_next();
  const ssize_t r = next.readahead(fd, offset, size);
  if (!refused(r)) return r;
  return on_handle(fd, r, [&](Lazy& lazy) -> ssize_t {
    if (offset < 0) return -EINVAL;
    return advise_chunks(lazy, static_cast<uint64_t>(offset), size), 0;
  });
}

// The kernel takes any advice on a directory and does nothing.
#define FADVISE(name, type)                                                                                 \
  int larder_##name(int fd, type offset, type size, int advice) {                                           \
    resolve_next();                                                                                         \
    const int r = next.name(fd, offset, size, advice);                                                      \
    Lazy lazy;                                                                                              \
    if (r != 0 || advice != POSIX_FADV_WILLNEED || offset < 0 || find_lazy(fd, &lazy) != 0) return r;       \
    advise_chunks(lazy, static_cast<uint64_t>(offset), size > 0 ? static_cast<uint64_t>(size) : lazy.size); \
    return r;                                                                                               \
  }
FADVISE(posix_fadvise, off_t)
FADVISE(posix_fadvise64, off64_t)
