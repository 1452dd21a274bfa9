// Tells a transfer that has stalled from one that is slow: in the last `patience`, fewer bytes came than the least rate
// gives, or none. Threads: one at a time.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstdint>

namespace larder {

class StallWatch {
 public:
  using Clock = std::chrono::steady_clock;

  // `least_rate`: bytes a second; 0: any byte will do.
  StallWatch(std::chrono::milliseconds patience, uint32_t least_rate, Clock::time_point now)
      : patience_(patience),
        least_(std::max<uint64_t>(1, static_cast<uint64_t>(patience.count()) * least_rate / 1000)),
        since_(now) {}

  void came(uint64_t bytes, Clock::time_point now) {
    bytes_ += bytes;
    if (bytes_ >= least_) restart(now);
  }
  // It moves, whatever came before: it is connected, or its reply begins.
  void restart(Clock::time_point now) {
    bytes_ = 0;
    since_ = now;
  }
  bool stalled(Clock::time_point now) const { return now - since_ > patience_; }

 private:
  std::chrono::milliseconds patience_;
  uint64_t least_;
  uint64_t bytes_ = 0;  // since `since_`
  Clock::time_point since_;
};

}  // namespace larder
