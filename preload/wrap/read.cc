// read, pread, their vectors and lseek. The kernel is asked first; a handle of a lazy object is a directory to it, and
// only its EISDIR (EINVAL of lseek) leads here: descriptors of anything else pay one compare.
#include "preload/wrap/read.h"

#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "preload/base/next.h"
#include "preload/base/sys.h"
#include "preload/lazy/handle_hints.h"
#include "preload/lazy/small_reads.h"

namespace larder {

constinit std::atomic<uint64_t> handle_hints[kHandleHints / 64] = {};

namespace {

constexpr size_t kMostAtOnce = 0x7ffff000;  // of one read(2)

// With a hint: the call on a handle. False: it is none, ask the kernel.
template <typename OnLazy>
__attribute__((noinline)) bool on_hinted(int fd, ssize_t* r, OnLazy on_lazy) {
  Lazy lazy;
  const int found = find_lazy(fd, &lazy);
  if (found == -EISDIR || found == -EBADF) return set_handle_hint(fd, false), false;
  *r = found < 0 ? found : on_lazy(lazy);
  if (*r < 0) *r = fail(static_cast<int>(-*r));
  return true;
}

template <typename Native, typename OnLazy>
inline ssize_t or_lazy(int fd, Native native, OnLazy on_lazy) {
  ssize_t r;
  if (__builtin_expect(handle_hint(fd), 0) && on_hinted(fd, &r, on_lazy)) return r;
  r = native();
  if (__builtin_expect(r < 0 && errno == EISDIR, 0)) return on_handle(fd, r, on_lazy);
  return r;
}

// Sum of the parts' sizes, or -1: too many parts or bytes.
ssize_t total(const struct iovec* parts, int count) {
  if (count < 0 || count > IOV_MAX) return -1;
  size_t sum = 0;
  for (int i = 0; i < count; ++i) {
    if (parts[i].iov_len > SSIZE_MAX - sum) return -1;
    sum += parts[i].iov_len;
  }
  return static_cast<ssize_t>(sum);
}

// Into the parts' bytes from `done` on, what is there of [offset + done, offset + limit): bytes, 0: not there yet.
ssize_t read_present(Lazy& lazy, const struct iovec* parts, int count, uint64_t offset, size_t limit, size_t done) {
  const size_t before = done;
  size_t start = 0;  // of the part
  for (int i = 0; i < count && done < limit; start += parts[i++].iov_len) {
    const size_t end = parts[i].iov_len < limit - start ? start + parts[i].iov_len : limit;
    if (done >= end) continue;
    char* to = static_cast<char*>(parts[i].iov_base) + (done - start);
    const ssize_t n = buffered_pread(lazy, to, end - done, offset + done);
    if (n < 0) return done > before ? static_cast<ssize_t>(done - before) : n;
    done += static_cast<size_t>(n);
    if (done < end) break;
  }
  return static_cast<ssize_t>(done - before);
}

// Bytes from an offset, waiting for them; like pread(2).
ssize_t read_parts(Lazy& lazy, const struct iovec* parts, int count, uint64_t offset, size_t limit) {
  if (offset >= lazy.size) return 0;
  if (limit > lazy.size - offset) limit = lazy.size - offset;
  ChunkWait chunks;
  size_t done = 0;
  while (done < limit) {
    ssize_t n = read_present(lazy, parts, count, offset, limit, done);
    if (n == 0) n = chunks.wait(lazy, offset + done, limit - done);
    if (n < 0) return done > 0 ? static_cast<ssize_t>(done) : n;
    if (n > 0) chunks.went_on();
    done += static_cast<size_t>(n);
  }
  return static_cast<ssize_t>(done);
}

// Of bytes that were read before the rest failed: takes them, if the position still is where they begin.
bool take(int fd, uint64_t start, size_t bytes, uint64_t object_size) {
  Claim claim(fd, bytes, object_size);
  if (claim.error == 0 && claim.offset == start) return true;
  claim.keep(0);
  return false;
}

// Bytes from the position, which moves by them; like read(2). The position is claimed only to read what is there, never
// over a wait: a signal's handler may jump out of that, and another reader may come first. Who finds the position moved
// begins anew.
ssize_t read_on(int fd, Lazy& lazy, const struct iovec* parts, int count, size_t wanted) {
  ChunkWait chunks;
  uint64_t start = 0;
  size_t done = 0;
  while (wanted > 0) {
    Claim claim(fd, wanted, lazy.size);
    if (claim.error != 0) return -claim.error;
    if (claim.offset != start) done = 0;
    start = claim.offset;
    ssize_t n = 0;
    while (done < claim.size && (n = read_present(lazy, parts, count, start, claim.size, done)) > 0)
      done += static_cast<size_t>(n);
    if (done == claim.size) return static_cast<ssize_t>(done);
    claim.keep(0);
    if (n == 0) n = chunks.wait(lazy, start + done, claim.size - done);
    if (n < 0 && done == 0) return n;
    if (n < 0 && take(fd, start, done, lazy.size)) return static_cast<ssize_t>(done);
  }
  return 0;
}

ssize_t lazy_readv(int fd, Lazy& lazy, const struct iovec* parts, int count) {
  const ssize_t wanted = total(parts, count);
  return wanted < 0 ? -EINVAL : read_on(fd, lazy, parts, count, static_cast<size_t>(wanted));
}

ssize_t lazy_preadv(Lazy& lazy, const struct iovec* parts, int count, off_t offset) {
  const ssize_t wanted = total(parts, count);
  if (wanted < 0 || offset < 0) return -EINVAL;
  return read_parts(lazy, parts, count, static_cast<uint64_t>(offset),
                    static_cast<size_t>(wanted) < kMostAtOnce ? static_cast<size_t>(wanted) : kMostAtOnce);
}

constexpr int kNoWait = 8;  // RWF_NOWAIT

ssize_t lazy_preadv2(int fd, Lazy& lazy, const struct iovec* parts, int count, off_t offset, int flags) {
  if (flags & kNoWait) return -EAGAIN;  // whether it would wait is known only when it has
  return offset == -1 ? lazy_readv(fd, lazy, parts, count) : lazy_preadv(lazy, parts, count, offset);
}

ssize_t lazy_read(int fd, Lazy& lazy, void* buffer, size_t size) {
  const struct iovec whole = {buffer, size < kMostAtOnce ? size : kMostAtOnce};
  return read_on(fd, lazy, &whole, 1, whole.iov_len);
}

ssize_t lazy_pread_at(Lazy& lazy, void* buffer, size_t size, off_t offset) {
  if (offset < 0) return -EINVAL;
  const struct iovec whole = {buffer, size < kMostAtOnce ? size : kMostAtOnce};
  return read_parts(lazy, &whole, 1, static_cast<uint64_t>(offset), whole.iov_len);
}

ssize_t raw_read(int fd, void* buffer, size_t size) {
  return libc_result(sys::call(SYS_read, fd, sys::arg(buffer), static_cast<long>(size)));
}
ssize_t raw_pread(int fd, void* buffer, size_t size, off_t offset) {
  return libc_result(sys::call(SYS_pread64, fd, sys::arg(buffer), static_cast<long>(size), offset));
}

}  // namespace

Claim::Claim(int handle, size_t wanted, uint64_t object_size) : fd(handle) {
  const long step = static_cast<long>(wanted < kMostAtOnce ? wanted : kMostAtOnce);
  long end = sys::lseek(fd, step, SEEK_CUR);
  if (end == -EINVAL || end == -EOVERFLOW) {  // so far behind the end that it would wrap
    const long at = sys::lseek(fd, 0, SEEK_CUR);
    if (at < 0)
      error = static_cast<int>(-at);
    else
      offset = static_cast<uint64_t>(at);
    return;
  }
  if (end < 0) {
    error = static_cast<int>(-end);
    return;
  }
  offset = static_cast<uint64_t>(end - step);
  size = static_cast<size_t>(step);
  if (offset < object_size && size > object_size - offset) {
    sys::lseek(fd, static_cast<long>(object_size - offset) - step, SEEK_CUR);
    size = object_size - offset;
  } else if (offset >= object_size && size > 0) {
    sys::lseek(fd, -step, SEEK_CUR);
    size = 0;
  }
}

void Claim::keep(ssize_t got) {
  const ssize_t used = got > 0 ? got : 0;
  if (used < static_cast<ssize_t>(size)) sys::lseek(fd, used - static_cast<ssize_t>(size), SEEK_CUR);
}

off_t lazy_seek(int fd, const Lazy& lazy, off_t offset, int whence) {
  const off_t size = static_cast<off_t>(lazy.size);
  switch (whence) {
    case SEEK_END:
      offset = __builtin_add_overflow(offset, size, &offset) ? -1 : offset;
      break;
    case SEEK_DATA:
      if (offset < 0 || offset >= size) return -ENXIO;
      break;
    case SEEK_HOLE:
      if (offset < 0 || offset >= size) return -ENXIO;
      offset = size;
      break;
    default:
      return -EINVAL;
  }
  return offset < 0 ? -EINVAL : sys::lseek(fd, offset, SEEK_SET);
}

}  // namespace larder

using namespace larder;

#define READ(name)                                                                                \
  ssize_t larder_##name(int fd, void* buffer, size_t size) {                                      \
    return or_lazy(                                                                               \
        fd, [&] { return next.name ? next.name(fd, buffer, size) : raw_read(fd, buffer, size); }, \
        [&](Lazy& lazy) { return lazy_read(fd, lazy, buffer, size); });                           \
  }
READ(read)
READ(__read)
ssize_t larder___read_chk(int fd, void* buffer, size_t size, size_t buflen) {
  resolve_next();
  return or_lazy(
      fd, [&] { return next.__read_chk(fd, buffer, size, buflen); },
      [&](Lazy& lazy) { return lazy_read(fd, lazy, buffer, size); });
}

#define PREAD(name, type)                                                                                          \
  ssize_t larder_##name(int fd, void* buffer, size_t size, type offset) {                                          \
    return or_lazy(                                                                                                \
        fd, [&] { return next.name ? next.name(fd, buffer, size, offset) : raw_pread(fd, buffer, size, offset); }, \
        [&](Lazy& lazy) { return lazy_pread_at(lazy, buffer, size, offset); });                                    \
  }
PREAD(pread, off_t)
PREAD(pread64, off64_t)
PREAD(__pread64, off64_t)

#define PREAD_CHK(name, type)                                                            \
  ssize_t larder_##name(int fd, void* buffer, size_t size, type offset, size_t buflen) { \
    resolve_next();                                                                      \
    return or_lazy(                                                                      \
        fd, [&] { return next.name(fd, buffer, size, offset, buflen); },                 \
        [&](Lazy& lazy) { return lazy_pread_at(lazy, buffer, size, offset); });          \
  }
PREAD_CHK(__pread_chk, off_t)
PREAD_CHK(__pread64_chk, off64_t)

ssize_t larder_readv(int fd, const struct iovec* parts, int count) {
  return or_lazy(
      fd,
      [&] {
        return next.readv ? next.readv(fd, parts, count)
                          : libc_result(sys::call(SYS_readv, fd, sys::arg(parts), count));
      },
      [&](Lazy& lazy) { return lazy_readv(fd, lazy, parts, count); });
}

#define PREADV(name, type)                                                           \
  ssize_t larder_##name(int fd, const struct iovec* parts, int count, type offset) { \
    resolve_next();                                                                  \
    return or_lazy(                                                                  \
        fd, [&] { return next.name(fd, parts, count, offset); },                     \
        [&](Lazy& lazy) { return lazy_preadv(lazy, parts, count, offset); });        \
  }
PREADV(preadv, off_t)
PREADV(preadv64, off64_t)

// glibc before 2.26 has no preadv2.
#define PREADV2(name, type)                                                                                      \
  ssize_t larder_##name(int fd, const struct iovec* parts, int count, type offset, int flags) {                  \
    resolve_next();                                                                                              \
    auto native = [&] {                                                                                          \
      return next.name ? next.name(fd, parts, count, offset, flags)                                              \
                       : libc_result(sys::call(SYS_preadv2, fd, sys::arg(parts), count, offset, 0, flags));      \
    };                                                                                                           \
    return or_lazy(fd, native, [&](Lazy& lazy) { return lazy_preadv2(fd, lazy, parts, count, offset, flags); }); \
  }
PREADV2(preadv2, off_t)
PREADV2(preadv64v2, off64_t)

// The kernel moves a directory's position by SEEK_SET and SEEK_CUR as a file's, and knows no end of it.
#define LSEEK(name, type)                                                                                     \
  type larder_##name(int fd, type offset, int whence) {                                                       \
    const type r = next.name ? next.name(fd, offset, whence) : libc_result(sys::lseek(fd, offset, whence));   \
    if (__builtin_expect(r >= 0 || errno != EINVAL || whence == SEEK_SET || whence == SEEK_CUR, 1)) return r; \
    return on_handle(fd, r, [&](Lazy& lazy) { return lazy_seek(fd, lazy, offset, whence); });                 \
  }
LSEEK(lseek, off_t)
LSEEK(lseek64, off64_t)
LSEEK(__lseek, off_t)
LSEEK(llseek, off64_t)

#define CLOSE(name)                                                                                \
  int larder_##name(int fd) {                                                                      \
    if (__builtin_expect(process.handles.load(std::memory_order_relaxed), 0) && handle_hint(fd)) { \
      set_handle_hint(fd, false);                                                                  \
      closing_handle();                                                                            \
    }                                                                                              \
    return next.name ? next.name(fd) : libc_result<int>(sys::close(fd));                           \
  }
CLOSE(close)
CLOSE(__close)
