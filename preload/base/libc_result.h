// Results as libc gives them. Inline, any thread; errno is the only thing that they touch.
#pragma once
#include <errno.h>

namespace larder {

// The result of a function that returns -1 and errno.
inline int fail(int error) {
  errno = error;
  return -1;
}

// What a raw system call returned: -1 and errno for each of its errors, -EPERM (-1) included; else the value. Only for
// raw results: libc's -1 would become EPERM.
template <typename R = long>
inline R libc_result(long raw) {
  if (raw < 0 && raw > -4096) return static_cast<R>(fail(static_cast<int>(-raw)));
  return static_cast<R>(raw);
}

}  // namespace larder
