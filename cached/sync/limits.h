// Limits of a sync: bytes a second, and bytes of memory at a time. Threads: any; wait() and Share block.
#pragma once
#include <chrono>
#include <cstdint>

#include "cached/base/mutex.h"

namespace larder {

// Spreads transfers over time: each begins when those before it would be through at the given rate. A single transfer
// is held to the rate by its connection (EngineOptions::max_transfer_speed).
class RateLimit {
 public:
  explicit RateLimit(uint64_t bytes_per_second) : rate_(bytes_per_second) {}  // 0: none
  void wait(uint64_t bytes);

 private:
  using Clock = std::chrono::steady_clock;
  const uint64_t rate_;
  Mutex mutex_;
  Clock::time_point next_ GUARDED_BY(mutex_){};
};

// A transfer holds its bytes in memory. One that is larger than the whole budget runs alone.
class MemoryBudget {
 public:
  explicit MemoryBudget(uint64_t bytes) : total_(bytes) {}
  class Share {
   public:
    Share(MemoryBudget& budget, uint64_t bytes) : budget_(budget), bytes_(bytes) { budget_.take(bytes_); }
    ~Share() { budget_.give(bytes_); }
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;

   private:
    MemoryBudget& budget_;
    const uint64_t bytes_;
  };

 private:
  void take(uint64_t bytes);
  void give(uint64_t bytes);

  const uint64_t total_;
  Mutex mutex_;
  CondVar freed_;
  uint64_t used_ GUARDED_BY(mutex_) = 0;
};

}  // namespace larder
