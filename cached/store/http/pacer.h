// How many requests are under way, how fast they may start, and how long a failed one waits.
#pragma once
#include <array>
#include <chrono>
#include <cstdint>

namespace larder {

// Concurrency that adapts. (Amazon S3 allows 5,500 GET/s a bucket prefix at first and answers 503 SlowDown above.)
//   Starts at 32, and grows only while something had to wait for a slot: by one a success until the first sign of
//   trouble, then by one a window (as many successes as the limit).
//   A throttle (503, 429, timeout) halves it, once per kCalm however many replies of the same burst complain.
//   Latency: while the mean time to the first byte of a window is twice the best one (and 10 ms more), the limit falls
//   by a quarter. If that does not make the store faster, Larder is not the cause: the step is taken back, and the new
//   latency is the normal one.
// It is never below 4. Fill leaves as many slots free as demand used at once lately, an eighth at least, so that a
// demand request finds one. Both together never exceed the limit. Threads: the caller's lock.
class Concurrency {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr int kStart = 32;
  static constexpr int kFloor = 4;
  static constexpr std::chrono::milliseconds kCalm{500};

  explicit Concurrency(int cap);
  bool may_start(bool demand);
  void started(bool demand);
  enum class Outcome { kSuccess, kThrottled, kOther };
  // `first_byte`: from sending the request to the reply's head; zero: none came.
  void ended(bool demand, Outcome outcome, std::chrono::microseconds first_byte, Clock::time_point now);
  int limit() const { return static_cast<int>(limit_); }
  int active() const { return active_; }

 private:
  void measure(double first_byte_ms);
  void judge(double mean_ms);
  void grow();
  int fill_share() const;
  enum class Step { kNone, kHeld, kLowered };
  void wait_for(Step step);

  const double cap_;
  double limit_;
  int active_ = 0;
  int active_fill_ = 0;
  double reserve_ = 0;  // slots that demand used at once, forgotten over a thousand ends of fill requests
  int hungry_ = 0;      // successes that may still grow the limit: set when something had to wait
  bool fast_ = true;
  Clock::time_point last_decrease_{};
  // Latency, in ms, of the current window; the best mean so far.
  double sum_ = 0, best_ = 0;
  int count_ = 0, window_ = 8;
  bool slow_ = false;  // the last window was too slow to grow
  Step step_ = Step::kNone;
  int settling_ = 0;  // requests that do not yet show the effect of the last step
  double before_ms_ = 0, before_limit_ = 0;
};

// Times to the first byte, to tell the slowest requests. Counts are halved every 1,024 requests, to forget old ones.
// Threads: the caller's lock.
class SlowestRequests {
 public:
  explicit SlowestRequests(std::chrono::milliseconds at_least) : at_least_(at_least) {}
  void add(std::chrono::microseconds first_byte);
  // max(at_least, p99); just at_least while fewer than 100 were seen.
  std::chrono::milliseconds after() const;

 private:
  static constexpr int kBuckets = 96;  // four a doubling, from 1 ms
  const std::chrono::milliseconds at_least_;
  std::array<uint32_t, kBuckets> counts_{};
  uint32_t total_ = 0;
};

// A cap on an average rate. Requests are charged when they start. Fill waits until all charges are paid; demand waits
// only for demand, so that a fill of many bytes does not delay it, and fill pays for both afterwards. Unused time buys
// at most kBurst. Threads: the caller's lock.
class RateCap {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kBurst{100};

  explicit RateCap(double per_second) : rate_(per_second) {}  // 0: no cap
  // Zero: it may start now. Otherwise the time after which to ask again.
  Clock::duration wait(bool demand, Clock::time_point now) const;
  void charge(bool demand, double amount, Clock::time_point now);

 private:
  void pay(Clock::time_point& paid_until, double amount, Clock::time_point now) const;

  const double rate_;
  Clock::time_point all_paid_{}, demand_paid_{};
};

// Wait before attempt number `attempt` (1: the first repetition): full jitter over an exponential scale, 50 ms to 5 s
// after a failure, 200 ms to 10 s after a throttle. The first repetition after a broken connection is immediate to 50
// ms.
std::chrono::milliseconds backoff(int attempt, bool throttled);

}  // namespace larder
