#include "cached/sync/limits.h"

#include <algorithm>
#include <thread>

namespace larder {

void RateLimit::wait(uint64_t bytes) {
  if (rate_ == 0) return;
  Clock::time_point begin;
  {
    MutexLock lock(mutex_);
    begin = std::max(Clock::now(), next_);
    next_ = begin + std::chrono::nanoseconds(
                        static_cast<int64_t>(1e9 * static_cast<double>(bytes) / static_cast<double>(rate_)));
  }
  std::this_thread::sleep_until(begin);
}

void MemoryBudget::take(uint64_t bytes) {
  MutexLock lock(mutex_);
  while (used_ != 0 && used_ + bytes > total_)
    freed_.wait(mutex_);
  used_ += bytes;
}

void MemoryBudget::give(uint64_t bytes) {
  {
    MutexLock lock(mutex_);
    used_ -= bytes;
  }
  freed_.notify_all();
}

}  // namespace larder
