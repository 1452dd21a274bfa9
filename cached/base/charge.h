// Bytes of the cache's budget that tables and catalogs take, as opposed to cache files. A Charge counts its bytes on a
// Meter while it lives; the Meter must outlive it. Threads: a Meter may be charged from any thread.
#pragma once
#include <atomic>
#include <cstdint>
#include <utility>

namespace larder {

using Meter = std::atomic<uint64_t>;

class Charge {
 public:
  Charge() = default;
  Charge(Meter& meter, uint64_t bytes) : meter_(&meter), bytes_(bytes) {
    meter.fetch_add(bytes, std::memory_order_relaxed);
  }
  Charge(Charge&& o) noexcept : meter_(std::exchange(o.meter_, nullptr)), bytes_(std::exchange(o.bytes_, 0)) {}
  Charge& operator=(Charge&& o) noexcept {
    std::swap(meter_, o.meter_);
    std::swap(bytes_, o.bytes_);
    return *this;
  }
  Charge(const Charge&) = delete;
  Charge& operator=(const Charge&) = delete;
  ~Charge() {
    if (meter_) meter_->fetch_sub(bytes_, std::memory_order_relaxed);
  }

 private:
  Meter* meter_ = nullptr;
  uint64_t bytes_ = 0;
};

}  // namespace larder
