// prctl and seccomp(2): a program that filters its own system calls. What the library may need of larderd is asked for
// before, and what the filter would end the program for is not done afterwards (preload/resolve/filters.h).
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "preload/base/next.h"
#include "preload/resolve/filters.h"
#include "preload/wrap/filter.h"

#ifndef SECCOMP_FILTER_FLAG_TSYNC
#define SECCOMP_FILTER_FLAG_TSYNC 1
#endif

namespace larder {
namespace {

// In a vfork child the filter is the child's, the memory is not.
template <typename Install>
long with_filter(bool strict, const void* program, bool every_thread, Install install) {
  if (process.pid.load(std::memory_order_acquire) == 0 || !own_process()) return install();
  current_state();
  FilterVerdict verdict;
  if (strict)
    verdict = judge_strict();
  else if (program != nullptr)
    verdict = judge_filter(*static_cast<const sock_fprog*>(program));
  const long r = install();
  if (r == 0) {
    const int error = errno;
    obey_filter(verdict, every_thread);
    errno = error;
  }
  return r;
}

}  // namespace

long call_seccomp(unsigned operation, unsigned flags, void* argument) {
  auto install = [=] { return libc_result(sys::call(SYS_seccomp, operation, flags, sys::arg(argument))); };
  if (operation != SECCOMP_SET_MODE_STRICT && operation != SECCOMP_SET_MODE_FILTER) return install();
  return with_filter(operation == SECCOMP_SET_MODE_STRICT, argument, (flags & SECCOMP_FILTER_FLAG_TSYNC) != 0, install);
}

}  // namespace larder

using namespace larder;

int larder_prctl(int option, ...) {
  va_list ap;
  va_start(ap, option);
  unsigned long a[4];
  for (unsigned long& value : a)
    value = va_arg(ap, unsigned long);
  va_end(ap);
  auto install = [&]() -> long {
    if (next.prctl != nullptr) return next.prctl(option, a[0], a[1], a[2], a[3]);
    return libc_result(sys::call(SYS_prctl, option, static_cast<long>(a[0]), static_cast<long>(a[1]),
                                 static_cast<long>(a[2]), static_cast<long>(a[3])));
  };
  if (option != PR_SET_SECCOMP) return static_cast<int>(install());
  return static_cast<int>(with_filter(a[0] == SECCOMP_MODE_STRICT,
                                      a[0] == SECCOMP_MODE_FILTER ? reinterpret_cast<const void*>(a[1]) : nullptr,
                                      false, install));
}
