// Raw system calls: the library's own I/O, and what runs before its constructor. They return -errno and never touch
// errno, libc or another preload. x86-64 and aarch64.
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include <atomic>

namespace larder::sys {

// ---- filters --------------------------------------------------------------------------------------------------------
// Calls that a filter of the program's (seccomp) may end it for are not made: they are -EPERM.
// preload/resolve/filters.h finds out which. A thread of the library's that has no filter, by its stack, makes them.

struct Filtered {
  std::atomic<bool> any{false};
  std::atomic<uint64_t> forbidden[8] = {};  // a bit a number; larger ones are not made
  std::atomic<uint64_t> free_low{0}, free_high{0};
};
inline constinit Filtered filtered;

__attribute__((noinline)) inline bool is_forbidden(long n) {
  const auto here = reinterpret_cast<uint64_t>(__builtin_frame_address(0));
  if (here >= filtered.free_low.load(std::memory_order_relaxed) &&
      here < filtered.free_high.load(std::memory_order_relaxed))
    return false;
  return n < 0 || n >= 512 || (filtered.forbidden[n / 64].load(std::memory_order_relaxed) >> (n % 64) & 1) != 0;
}

#define LARDER_UNLESS_FORBIDDEN(n) \
  if (__builtin_expect(filtered.any.load(std::memory_order_relaxed), 0) && is_forbidden(n)) return -EPERM

#if defined(__x86_64__)
inline long call(long n, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
  LARDER_UNLESS_FORBIDDEN(n);
  long ret;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(ret)
                   : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return ret;
}
#elif defined(__aarch64__)
inline long call(long n, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
  LARDER_UNLESS_FORBIDDEN(n);
  register long x8 __asm__("x8") = n;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory", "cc");
  return x0;
}
#else
#error "Larder's preload knows x86-64 and aarch64"
#endif

template <typename T>
inline long arg(T* p) {
  return reinterpret_cast<long>(p);
}

inline int openat(int dir, const char* path, int flags, unsigned mode = 0) {
  return static_cast<int>(call(SYS_openat, dir, arg(path), flags, mode));
}
inline int close(int fd) {
  return static_cast<int>(call(SYS_close, fd));
}
// struct stat of the kernel is glibc's on both machines.
inline int fstat(int fd, struct stat* st) {
  return static_cast<int>(call(SYS_fstat, fd, arg(st)));
}
inline int fstatat(int dir, const char* path, struct stat* st, int flags) {
  return static_cast<int>(call(SYS_newfstatat, dir, arg(path), arg(st), flags));
}
inline long readlinkat(int dir, const char* path, char* buf, size_t n) {
  return call(SYS_readlinkat, dir, arg(path), arg(buf), static_cast<long>(n));
}
inline long getcwd(char* buf, size_t n) {
  return call(SYS_getcwd, arg(buf), static_cast<long>(n));
}
inline int fchdir(int fd) {
  return static_cast<int>(call(SYS_fchdir, fd));
}
inline int fcntl(int fd, int cmd, long a) {
  return static_cast<int>(call(SYS_fcntl, fd, cmd, a));
}
inline int getpid() {
  return static_cast<int>(call(SYS_getpid));
}
inline unsigned getuid() {
  return static_cast<unsigned>(call(SYS_getuid));
}
inline long lseek(int fd, long off, int whence) {
  return call(SYS_lseek, fd, off, whence);
}
inline void* mmap(void* at, size_t n, int prot, int flags, int fd, long off) {
  long r = call(SYS_mmap, arg(at), static_cast<long>(n), prot, flags, fd, off);
  return r < 0 && r > -4096 ? nullptr : reinterpret_cast<void*>(r);
}
inline int munmap(void* at, size_t n) {
  return static_cast<int>(call(SYS_munmap, arg(at), static_cast<long>(n)));
}
inline int64_t now_ms() {
  struct timespec t = {};
  call(SYS_clock_gettime, CLOCK_MONOTONIC, arg(&t));
  return int64_t{t.tv_sec} * 1000 + t.tv_nsec / 1000000;
}
inline void sleep_ms(int ms) {
  struct timespec t = {ms / 1000, (ms % 1000) * 1000000L};
  call(SYS_nanosleep, arg(&t), 0);
}

// Waits for events on one descriptor; like poll(2) for it. -EINTR is possible.
inline int wait_fd(int fd, short events, int64_t timeout_ms) {
  struct pollfd p = {fd, events, 0};
  struct timespec t = {timeout_ms / 1000, (timeout_ms % 1000) * 1000000};
  return static_cast<int>(call(SYS_ppoll, arg(&p), 1, arg(&t), 0, 8));
}

// Blocks every signal for a scope.
class SignalGuard {
 public:
  SignalGuard() {
    uint64_t all = ~0ULL;
    call(SYS_rt_sigprocmask, SIG_SETMASK, arg(&all), arg(&old_), 8);
  }
  ~SignalGuard() { call(SYS_rt_sigprocmask, SIG_SETMASK, arg(&old_), 0, 8); }
  SignalGuard(const SignalGuard&) = delete;
  SignalGuard& operator=(const SignalGuard&) = delete;
  // The signals that the guard holds back, of those that the program would get.
  uint64_t held_back() const { return ~old_; }

 private:
  uint64_t old_ = 0;
};

// "/proc/self/fd/N", for calls that take only a path. Holds also for files without a name. `out` has 32 bytes.
inline void fd_path(int fd, char* out) {
  char digits[12];
  int at = 11;
  digits[at] = 0;
  unsigned v = static_cast<unsigned>(fd);
  do
    digits[--at] = static_cast<char>('0' + v % 10);
  while ((v /= 10) != 0);
  memcpy(out, "/proc/self/fd/", 14);
  memcpy(out + 14, digits + at, static_cast<size_t>(12 - at));
}

// Closes a descriptor of ours at the end of a scope.
class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }
  void reset(int fd) {
    if (fd_ >= 0) close(fd_);
    fd_ = fd;
  }
  int release() {
    int f = fd_;
    fd_ = -1;
    return f;
  }

 private:
  int fd_;
};

}  // namespace larder::sys
