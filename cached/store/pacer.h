// How many requests are under way, and how long a failed one waits.
#pragma once
#include <chrono>
#include <cstdint>

namespace larder {

// Concurrency that adapts: additive increase, multiplicative decrease (object-stores.md C.1: a bucket prefix starts at
// 5,500 GET/s and answers 503 SlowDown above). Starts at 32; a whole window of successes adds one; a throttle halves,
// once per kCalm however many replies of the same burst complain; never below 4. Fill requests may use 3/4 of the
// slots, so that a demand request always finds one. Threads: the caller's lock.
class Concurrency {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr int kStart = 32;
  static constexpr int kFloor = 4;
  static constexpr std::chrono::milliseconds kCalm{500};

  explicit Concurrency(int cap);
  bool may_start(bool demand) const;
  void started(bool demand);
  enum class Outcome { kSuccess, kThrottled, kOther };
  void ended(bool demand, Outcome outcome, Clock::time_point now);
  int limit() const { return static_cast<int>(limit_); }
  int active() const { return active_; }

 private:
  const double cap_;
  double limit_;
  int active_ = 0;
  int active_fill_ = 0;
  Clock::time_point last_decrease_{};
};

// Wait before attempt number `attempt` (1: the first repetition): full jitter over an exponential scale, 50 ms to 5 s
// after a failure, 200 ms to 10 s after a throttle. The first repetition after a broken connection is immediate to 50
// ms.
std::chrono::milliseconds backoff(int attempt, bool throttled);

}  // namespace larder
