// Calls in which the kernel reads the program's memory: write, send and their kin, fwrite. Where userfaultfd serves
// user mode alone (no CAP_SYS_PTRACE), the kernel cannot wait for an absent page of a mapped lazy file: the call is
// EFAULT, or stops short of it. So the pages are touched before, and what was evicted meanwhile once more. A process
// without such mappings pays a load and a branch.
#include <errno.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "preload/base/next.h"
#include "preload/base/sys.h"
#include "preload/lazy/paged_mmap.h"
#include "preload/resolve/dispatch.h"

namespace larder {
namespace {

constexpr size_t kStep = 16 << 20;  // touched at a time: a buffer may be larger than the cache
constexpr int kFutile = 16;         // times that pages are evicted between touch and call, before the EFAULT stands

inline bool must_touch() {
  return __builtin_expect(kernel_cannot_wait.load(std::memory_order_relaxed), 0);
}

// Whether the call stopped at an absent page, so that it is to be done again from there.
bool stopped_at_page(const char* at, ssize_t r) {
  return (r >= 0 || errno == EFAULT) && first_paged(at, 1) != nullptr;
}

// call(data, size, done) writes bytes whose first `done` are written already.
template <typename Call>
__attribute__((noinline)) ssize_t write_touched(const void* data, size_t size, Call call) {
  const char* bytes = static_cast<const char*>(data);
  if (first_paged(data, size) == nullptr) return call(bytes, size, 0);
  size_t done = 0;
  for (int futile = 0;;) {
    const size_t step = size - done < kStep ? size - done : kStep;
    touch_paged(bytes + done, step);
    const ssize_t n = call(bytes + done, step, done);
    futile = n > 0 ? 0 : futile + 1;
    done += n > 0 ? static_cast<size_t>(n) : 0;
    const bool whole = n >= 0 && static_cast<size_t>(n) == step;
    if (done == size || (!whole && (futile > kFutile || !stopped_at_page(bytes + done, n))))
      return done > 0 || n >= 0 ? static_cast<ssize_t>(done) : n;
  }
}

template <typename Call>
inline ssize_t write_bytes(const void* data, size_t size, Call call) {
  return must_touch() ? write_touched(data, size, call) : call(data, size, 0);
}

bool touch_parts(const struct iovec* parts, size_t count) {
  bool any = false;
  for (size_t i = 0; i < count; ++i)
    any |= touch_paged(parts[i].iov_base, parts[i].iov_len);
  return any;
}

// Writes all parts with call(); what it leaves because of an absent page goes on part by part with rest(data, size,
// done).
template <typename Call, typename Rest>
__attribute__((noinline)) ssize_t write_parts_touched(const struct iovec* parts, size_t count, Call call, Rest rest) {
  if (count > IOV_MAX || !touch_parts(parts, count)) return call();
  ssize_t r = call();
  for (int futile = 0; r < 0 && errno == EFAULT && futile < kFutile; ++futile) {
    touch_parts(parts, count);
    r = call();
  }
  if (r < 0) return r;
  size_t start = 0;
  for (size_t i = 0; i < count; start += parts[i++].iov_len) {
    const size_t end = start + parts[i].iov_len, done = static_cast<size_t>(r);
    if (done >= end) continue;
    const char* at = static_cast<const char*>(parts[i].iov_base) + (done > start ? done - start : 0);
    if (done != start && first_paged(at, 1) == nullptr) return r;
    const ssize_t n = write_touched(
        at, end - done, [&](const void* p, size_t size, size_t more) { return rest(p, size, done + more); });
    if (n <= 0) return r;
    r += n;
    if (static_cast<size_t>(r) < end) return r;
  }
  return r;
}

template <typename Call, typename Rest>
inline ssize_t write_parts(const struct iovec* parts, size_t count, Call call, Rest rest) {
  return must_touch() ? write_parts_touched(parts, count, call, rest) : call();
}

// A call that gives the same result when it is made once more: until no page was missing.
template <typename Call>
__attribute__((noinline)) ssize_t repeat_touched(const struct iovec* parts, size_t count, Call call) {
  size_t wanted = 0;
  for (size_t i = 0; i < count; ++i)
    wanted += parts[i].iov_len;
  for (int futile = 0;; ++futile) {
    const bool paged = touch_parts(parts, count);
    const ssize_t r = call();
    const bool missing = r < 0 ? errno == EFAULT : static_cast<size_t>(r) < wanted;
    if (!paged || !missing || futile > kFutile) return r;
  }
}

size_t write_stream(const void* data, size_t bytes, FILE* stream, decltype(&::fwrite) write_some) {
  constexpr size_t kPiece = 1 << 20;
  const char* from = static_cast<const char*>(data);
  for (size_t done = 0; done < bytes;) {
    const size_t piece = bytes - done < kPiece ? bytes - done : kPiece;
    touch_paged(from + done, piece);
    const size_t n = write_some(from + done, 1, piece, stream);
    done += n;
    if (n < piece) return done;
  }
  return bytes;
}

}  // namespace
}  // namespace larder

using namespace larder;

#define WRITE(name)                                                                                \
  ssize_t larder_##name(int fd, const void* data, size_t size) {                                   \
    return write_bytes(data, size, [fd](const void* p, size_t n, size_t) {                         \
      return next.name ? next.name(fd, p, n)                                                       \
                       : libc_result(sys::call(SYS_write, fd, sys::arg(p), static_cast<long>(n))); \
    });                                                                                            \
  }
WRITE(write)
WRITE(__write)

#define PWRITE(name, type)                                                     \
  ssize_t larder_##name(int fd, const void* data, size_t size, type offset) {  \
    resolve_next();                                                            \
    return write_bytes(data, size, [=](const void* p, size_t n, size_t done) { \
      return next.name(fd, p, n, offset + static_cast<type>(done));            \
    });                                                                        \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)
PWRITE(__pwrite64, off64_t)

ssize_t larder_writev(int fd, const struct iovec* parts, int count) {
  auto all = [=] {
    return next.writev ? next.writev(fd, parts, count) : libc_result(sys::call(SYS_writev, fd, sys::arg(parts), count));
  };
  return write_parts(parts, static_cast<size_t>(count), all,
                     [fd](const void* p, size_t n, size_t) { return next.write(fd, p, n); });
}

#define PWRITEV(name, type)                                                                     \
  ssize_t larder_##name(int fd, const struct iovec* parts, int count, type offset) {            \
    resolve_next();                                                                             \
    return write_parts(                                                                         \
        parts, static_cast<size_t>(count), [=] { return next.name(fd, parts, count, offset); }, \
        [=](const void* p, size_t n, size_t done) {                                             \
          return next.pwrite64(fd, p, n, offset + static_cast<type>(done));                     \
        });                                                                                     \
  }
PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)

// glibc before 2.26 has no pwritev2.
#define PWRITEV2(name, type)                                                                     \
  ssize_t larder_##name(int fd, const struct iovec* parts, int count, type offset, int flags) {  \
    resolve_next();                                                                              \
    auto some = [=](const struct iovec* v, int n, type at) {                                     \
      return next.name ? next.name(fd, v, n, at, flags)                                          \
                       : libc_result(sys::call(SYS_pwritev2, fd, sys::arg(v), n, at, 0, flags)); \
    };                                                                                           \
    return write_parts(                                                                          \
        parts, static_cast<size_t>(count), [=] { return some(parts, count, offset); },           \
        [=](const void* p, size_t n, size_t done) {                                              \
          const struct iovec rest = {const_cast<void*>(p), n};                                   \
          return some(&rest, 1, offset == -1 ? -1 : offset + static_cast<type>(done));           \
        });                                                                                      \
  }
PWRITEV2(pwritev2, off_t)
PWRITEV2(pwritev64v2, off64_t)

ssize_t larder_send(int fd, const void* data, size_t size, int flags) {
  resolve_next();
  return write_bytes(data, size, [=](const void* p, size_t n, size_t) { return next.send(fd, p, n, flags); });
}
ssize_t larder___send(int fd, const void* data, size_t size, int flags) {
  return larder_send(fd, data, size, flags);
}
ssize_t larder_sendto(int fd, const void* data, size_t size, int flags, const struct sockaddr* to, socklen_t to_size) {
  resolve_next();
  return write_bytes(data, size,
                     [=](const void* p, size_t n, size_t) { return next.sendto(fd, p, n, flags, to, to_size); });
}
ssize_t larder_sendmsg(int fd, const struct msghdr* message, int flags) {
  resolve_next();
  auto all = [=] { return next.sendmsg(fd, message, flags); };
  if (message == nullptr) return all();
  return write_parts(message->msg_iov, message->msg_iovlen, all,
                     [=](const void* p, size_t n, size_t) { return next.send(fd, p, n, flags); });
}
int larder_sendmmsg(int fd, struct mmsghdr* messages, unsigned count, int flags) {
  resolve_next();
  for (unsigned i = 0; must_touch() && messages != nullptr && i < count; ++i)
    touch_parts(messages[i].msg_hdr.msg_iov, messages[i].msg_hdr.msg_iovlen);
  return next.sendmmsg(fd, messages, count, flags);
}
ssize_t larder_vmsplice(int fd, const struct iovec* parts, size_t count, unsigned flags) {
  resolve_next();
  auto all = [=] { return next.vmsplice(fd, parts, count, flags); };
  return write_parts(parts, count, all, [=](const void* p, size_t n, size_t) {
    const struct iovec rest = {const_cast<void*>(p), n};
    return next.vmsplice(fd, &rest, 1, flags);
  });
}

// Of this process alone: what another one has mapped is not known here.
ssize_t larder_process_vm_readv(pid_t pid, const struct iovec* to, unsigned long to_count, const struct iovec* from,
                                unsigned long from_count, unsigned long flags) {
  resolve_next();
  auto all = [=] { return next.process_vm_readv(pid, to, to_count, from, from_count, flags); };
  if (!must_touch() || pid != sys::getpid() || from_count > IOV_MAX) return all();
  return repeat_touched(from, from_count, all);
}
ssize_t larder_process_vm_writev(pid_t pid, const struct iovec* from, unsigned long from_count, const struct iovec* to,
                                 unsigned long to_count, unsigned long flags) {
  resolve_next();
  auto all = [=] { return next.process_vm_writev(pid, from, from_count, to, to_count, flags); };
  return !must_touch() || from_count > IOV_MAX ? all() : repeat_touched(from, from_count, all);
}

int larder_mlock(const void* start, size_t length) {
  if (must_touch()) touch_paged(start, length);
  return next.mlock ? next.mlock(start, length)
                    : libc_result<int>(sys::call(SYS_mlock, sys::arg(start), static_cast<long>(length)));
}

// libc writes large blocks straight from the program's memory, without calling write().
#define FWRITE(name)                                                                  \
  size_t larder_##name(const void* data, size_t size, size_t count, FILE* stream) {   \
    resolve_next();                                                                   \
    size_t bytes;                                                                     \
    if (!must_touch() || __builtin_mul_overflow(size, count, &bytes) || bytes == 0 || \
        first_paged(data, bytes) == nullptr)                                          \
      return next.name(data, size, count, stream);                                    \
    return write_stream(data, bytes, stream, next.name) / size;                       \
  }
FWRITE(fwrite)
FWRITE(fwrite_unlocked)
