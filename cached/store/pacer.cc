#include "cached/store/pacer.h"

#include <algorithm>
#include <random>

namespace larder {

Concurrency::Concurrency(int cap) : cap_(cap), limit_(std::min(kStart, cap)) {}

bool Concurrency::may_start(bool demand) const {
  if (active_ >= static_cast<int>(limit_)) return false;
  return demand || active_fill_ < std::max(1, static_cast<int>(limit_) * 3 / 4);
}

void Concurrency::started(bool demand) {
  ++active_;
  if (!demand) ++active_fill_;
}

void Concurrency::ended(bool demand, Outcome outcome, Clock::time_point now) {
  // Growth only where the limit is what holds requests back; fill alone may reach 3/4 of it.
  const bool full = active_ + 1 >= limit_ * 3 / 4;
  --active_;
  if (!demand) --active_fill_;
  if (outcome == Outcome::kSuccess && full) limit_ = std::min(cap_, limit_ + 1 / limit_);
  if (outcome == Outcome::kThrottled && now - last_decrease_ >= kCalm) {
    limit_ = std::max(std::min<double>(kFloor, cap_), limit_ / 2);
    last_decrease_ = now;
  }
}

std::chrono::milliseconds backoff(int attempt, bool throttled) {
  thread_local std::minstd_rand random(std::random_device{}());
  const int64_t base = throttled ? 200 : 50;
  const int64_t cap = throttled ? 10'000 : 5'000;
  const int64_t scale = std::min(cap, base << std::clamp(attempt - 1, 0, 20));
  return std::chrono::milliseconds(std::uniform_int_distribution<int64_t>(throttled ? scale / 4 : 0, scale)(random));
}

}  // namespace larder
