#include "preload/lazy/pager_thread.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/resource.h>

#include "preload/base/sys.h"

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

namespace larder {
namespace {

constexpr unsigned kCloseRangeUnshare = 2;
constexpr unsigned long kGuard = 65536;  // a page, whatever its size

// clone(2) onto another stack: the new thread pops its entry from it.
long clone_onto(unsigned long flags, void* stack, std::atomic<int>* gone) {
  long ret;
#if defined(__x86_64__)
  register long r10 __asm__("r10") = sys::arg(gone);  // child_tid
  register long r8 __asm__("r8") = 0;
  __asm__ volatile(
      "syscall\n\t"
      "test %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xor %%ebp, %%ebp\n\t"
      "pop %%rax\n\t"
      "pop %%rdi\n\t"
      "call *%%rax\n\t"
      "hlt\n"
      "1:"
      : "=a"(ret)
      : "a"(SYS_clone), "D"(flags), "S"(stack), "d"(gone), "r"(r10), "r"(r8)
      : "rcx", "r11", "memory");
#else
  register long x8 __asm__("x8") = SYS_clone;
  register long x0 __asm__("x0") = static_cast<long>(flags);
  register long x1 __asm__("x1") = sys::arg(stack);
  register long x2 __asm__("x2") = sys::arg(gone);
  register long x3 __asm__("x3") = 0;
  register long x4 __asm__("x4") = sys::arg(gone);  // child_tid
  __asm__ volatile(
      "svc 0\n\t"
      "cbnz x0, 1f\n\t"
      "mov x29, xzr\n\t"
      "ldr x1, [sp], #16\n\t"
      "blr x1\n\t"
      "brk #1\n"
      "1:"
      : "+r"(x0)
      : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
      : "memory", "cc", "x30");
  ret = x0;
#endif
  return ret;
}

}  // namespace

char* make_stack(unsigned long bytes) {
  void* p = sys::mmap(nullptr, kGuard + bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == nullptr) return nullptr;
  char* base = static_cast<char*>(p) + kGuard;
  if (sys::call(SYS_mprotect, sys::arg(base), static_cast<long>(bytes), PROT_READ | PROT_WRITE) == 0)
    return base + bytes;
  sys::munmap(p, kGuard + bytes);
  return nullptr;
}

long spawn_thread(void (*entry)(), char* stack_end, std::atomic<int>* gone) {
  sys::SignalGuard signals;                            // inherited
  auto* top = reinterpret_cast<long*>(stack_end) - 2;  // 16-byte aligned when the entry has been popped
  top[0] = reinterpret_cast<long>(entry);
  constexpr unsigned long kFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
                                   CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
  return clone_onto(kFlags, top, gone);
}

int leave_descriptors() {
  // Unshared by the range that is closed, a descriptor is never held by two tables: closing ours would flush it (FUSE,
  // NFS).
  if (sys::call(SYS_close_range, 0, ~0U, kCloseRangeUnshare) == 0) return 0;
  if (const long r = sys::call(SYS_unshare, CLONE_FILES)) return static_cast<int>(r);
  struct rlimit limit = {};
  sys::call(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, sys::arg(&limit));
  const int end = limit.rlim_max < 1 << 20 ? static_cast<int>(limit.rlim_max) : 1 << 20;
  for (int fd = 0; fd < end; ++fd)
    sys::close(fd);
  return 0;
}

void futex_wait(const std::atomic<uint32_t>* word, uint32_t value, int timeout_ms) {
  struct timespec t = {timeout_ms / 1000, (timeout_ms % 1000) * 1000000L};
  sys::call(SYS_futex, sys::arg(word), FUTEX_WAIT_PRIVATE, value, sys::arg(&t));
}

void futex_wake(const std::atomic<uint32_t>* word) {
  sys::call(SYS_futex, sys::arg(word), FUTEX_WAKE_PRIVATE, 1 << 30);
}

}  // namespace larder
