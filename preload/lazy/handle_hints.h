// Shared by the wrappers of calls on descriptors: whether one is the handle of a lazy object, and of which.
#pragma once
#include <errno.h>

#include <atomic>

#include "preload/lazy/handle_table.h"

namespace larder {

// Descriptors that were handles when they were last read; saves the call that the kernel would refuse. It is only a
// hint: each read checks the descriptor, and the kernel's refusal finds a handle without a hint.
inline constexpr unsigned kHandleHints = 65536;
extern std::atomic<uint64_t> handle_hints[kHandleHints / 64];

inline bool handle_hint(int fd) {
  return static_cast<unsigned>(fd) < kHandleHints &&
         (handle_hints[fd / 64].load(std::memory_order_relaxed) >> (fd % 64) & 1);
}

inline void set_handle_hint(int fd, bool on) {
  if (static_cast<unsigned>(fd) >= kHandleHints) return;
  const uint64_t bit = 1ULL << (fd % 64);
  if (on) process.handles.store(true, std::memory_order_relaxed);
  if (on)
    handle_hints[fd / 64].fetch_or(bit, std::memory_order_relaxed);
  else
    handle_hints[fd / 64].fetch_and(~bit, std::memory_order_relaxed);
}

// The kernel refused the call with `r`. If fd is a handle, on_lazy(lazy) says what it is instead (-errno if it fails);
// else that answer, with its errno, stands.
template <typename OnLazy>
__attribute__((noinline)) ssize_t on_handle(int fd, ssize_t r, OnLazy on_lazy) {
  const int error = errno;
  Lazy lazy;
  const int found = find_lazy(fd, &lazy);
  if (found == -EISDIR || found == -EBADF) return errno = error, r;
  if (found == 0 && !handle_hint(fd)) set_handle_hint(fd, true);
  const ssize_t got = found < 0 ? found : on_lazy(lazy);
  if (got < 0) return fail(static_cast<int>(-got));
  return errno = error, got;
}

}  // namespace larder
