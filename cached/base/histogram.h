// Counts durations by size: buckets of powers of two from 1 ms to 65 s, and one without a bound. Thread-safe; a
// snapshot may miss what is being counted.
#pragma once
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>

namespace larder {

class Histogram {
 public:
  static constexpr int kBounds = 17;
  static constexpr double bound_s(int i) { return 0.001 * static_cast<double>(1u << i); }

  void add(std::chrono::nanoseconds duration) {
    const double s = std::chrono::duration<double>(duration).count();
    int i = 0;
    while (i < kBounds && s > bound_s(i))
      ++i;
    counts_[i].fetch_add(1, std::memory_order_relaxed);
    sum_ns_.fetch_add(static_cast<uint64_t>(duration.count()), std::memory_order_relaxed);
  }
  uint64_t count(int i) const { return counts_[i].load(std::memory_order_relaxed); }  // up to kBounds
  double sum_s() const { return static_cast<double>(sum_ns_.load(std::memory_order_relaxed)) / 1e9; }

 private:
  std::array<std::atomic<uint64_t>, kBounds + 1> counts_{};
  std::atomic<uint64_t> sum_ns_{0};
};

}  // namespace larder
