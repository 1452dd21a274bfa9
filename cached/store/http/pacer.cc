#include "cached/store/http/pacer.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace larder {

// ---- Concurrency --------------------------------------------------------------------------------

Concurrency::Concurrency(int cap) : cap_(cap), limit_(std::min(kStart, cap)) {}

int Concurrency::fill_share() const {
  const double free = std::max(limit_ / 8, std::ceil(reserve_));
  return std::max(1, static_cast<int>(std::max(limit_ - free, limit_ / 4)));
}

bool Concurrency::may_start(bool demand) {
  const int limit = static_cast<int>(limit_);
  if (active_ < limit && (demand || active_fill_ < fill_share())) return true;
  hungry_ = limit;
  if (demand) reserve_ = std::min(limit_, reserve_ + 1);
  return false;
}

void Concurrency::started(bool demand) {
  ++active_;
  if (!demand) ++active_fill_;
  if (demand) reserve_ = std::max<double>(reserve_, active_ - active_fill_);
}

void Concurrency::ended(bool demand, Outcome outcome, std::chrono::microseconds first_byte, Clock::time_point now) {
  --active_;
  if (!demand) --active_fill_;
  if (!demand) reserve_ -= reserve_ / 1000;
  if (outcome == Outcome::kSuccess) {
    grow();
    if (first_byte.count() > 0) measure(static_cast<double>(first_byte.count()) / 1000);
  }
  if (outcome == Outcome::kThrottled && now - last_decrease_ >= kCalm) {
    limit_ = std::max(std::min<double>(kFloor, cap_), limit_ / 2);
    fast_ = false;
    wait_for(Step::kNone);
    last_decrease_ = now;
  }
}

void Concurrency::grow() {
  if (hungry_ <= 0) return;
  --hungry_;
  if (!slow_) limit_ = std::min(cap_, limit_ + (fast_ ? 1 : 1 / limit_));
}

void Concurrency::measure(double first_byte_ms) {
  if (settling_ > 0) {
    --settling_;
    return;
  }
  sum_ += first_byte_ms;
  if (++count_ < window_) return;
  const double mean = sum_ / count_;
  sum_ = 0;
  count_ = 0;
  window_ = std::clamp(limit(), 8, 64);
  judge(mean);
}

// Too slow: growing stops; when that has settled, the limit falls; when that has settled, it is seen whether it helped.
// Twice as many requests as the limit settle it: those that were sent before, and those that queued behind them.
void Concurrency::judge(double mean) {
  const bool inflated = best_ > 0 && mean > best_ * 2 + 10 && limit_ > kFloor;
  switch (step_) {
    case Step::kNone:
      best_ = best_ == 0 ? mean : std::min(mean, best_);
      slow_ = mean > best_ * 1.5 + 5;
      if (!inflated) return;
      slow_ = true;
      fast_ = false;
      return wait_for(Step::kHeld);
    case Step::kHeld:
      if (!inflated) return wait_for(Step::kNone);
      before_ms_ = mean;
      before_limit_ = limit_;
      limit_ = std::max(std::min<double>(kFloor, cap_), limit_ * 0.75);
      return wait_for(Step::kLowered);
    case Step::kLowered:
      if (mean > before_ms_ * 0.85) {
        limit_ = std::min(cap_, std::max(limit_, before_limit_));
        best_ = mean;
        slow_ = false;
      }
      return wait_for(Step::kNone);
  }
}

void Concurrency::wait_for(Step step) {
  step_ = step;
  settling_ = 2 * limit();
}

// ---- SlowestRequests ----------------------------------------------------------------------------

void SlowestRequests::add(std::chrono::microseconds first_byte) {
  const double ms = std::max(1.0, static_cast<double>(first_byte.count()) / 1000);
  counts_[static_cast<size_t>(std::min<int>(kBuckets - 1, static_cast<int>(4 * std::log2(ms))))] += 1;
  if (++total_ < 2048) return;
  total_ = 0;
  for (uint32_t& n : counts_)
    total_ += n /= 2;
}

std::chrono::milliseconds SlowestRequests::after() const {
  if (total_ < 100) return at_least_;
  uint32_t above = 0;
  int i = kBuckets;
  while (i > 0 && above + counts_[static_cast<size_t>(i - 1)] <= total_ / 100)
    above += counts_[static_cast<size_t>(--i)];
  return std::max(at_least_, std::chrono::milliseconds(static_cast<int64_t>(std::exp2(i / 4.0))));
}

// ---- RateCap ------------------------------------------------------------------------------------

RateCap::Clock::duration RateCap::wait(bool demand, Clock::time_point now) const {
  if (rate_ <= 0) return {};
  return std::max(Clock::duration{}, (demand ? demand_paid_ : all_paid_) - now);
}

void RateCap::pay(Clock::time_point& paid_until, double amount, Clock::time_point now) const {
  const auto time = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(amount / rate_));
  paid_until = std::max(paid_until, now - kBurst) + time;
}

void RateCap::charge(bool demand, double amount, Clock::time_point now) {
  if (rate_ <= 0) return;
  pay(all_paid_, amount, now);
  if (demand) pay(demand_paid_, amount, now);
}

std::chrono::milliseconds backoff(int attempt, bool throttled) {
  thread_local std::minstd_rand random(std::random_device{}());
  const int64_t base = throttled ? 200 : 50;
  const int64_t cap = throttled ? 10'000 : 5'000;
  const int64_t scale = std::min(cap, base << std::clamp(attempt - 1, 0, 20));
  return std::chrono::milliseconds(std::uniform_int_distribution<int64_t>(throttled ? scale / 4 : 0, scale)(random));
}

}  // namespace larder
