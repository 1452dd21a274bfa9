// A lock between the threads of a process that no death leaves held. Its holder blocks all signals and makes raw system
// calls only, so the holder can only vanish by fork; the child then sees another pid in the lock and takes it over.
#pragma once
#include <atomic>

#include "preload/base/sys.h"

namespace larder {

class ProcessLock {
 public:
  // `holder`: 0, or the pid of the process whose thread holds it. Starts as 0.
  explicit ProcessLock(std::atomic<int>& holder) : holder_(holder) {
    const int me = sys::getpid();
    for (;;) {
      int seen = 0;
      if (holder_.compare_exchange_strong(seen, me, std::memory_order_acquire)) return;
      if (seen != me && holder_.compare_exchange_strong(seen, me, std::memory_order_acquire)) return;
      sys::sleep_ms(1);
    }
  }
  ~ProcessLock() { holder_.store(0, std::memory_order_release); }
  ProcessLock(const ProcessLock&) = delete;
  ProcessLock& operator=(const ProcessLock&) = delete;

 private:
  sys::SignalGuard signals_;  // blocked before the lock is taken, until after it is released
  std::atomic<int>& holder_;
};

}  // namespace larder
