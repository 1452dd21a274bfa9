// Memory for bodies that are kept until they are whole. It is reused at once, because fresh memory costs a page fault
// every 4 KiB: a tenth of the cost of a GET of 110 KB. Threads: any. It must outlive its buffers.
#pragma once
#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "cached/base/mutex.h"

namespace larder {

class BodyBuffers {
 public:
  class Buffer {
   public:
    Buffer() = default;
    Buffer(Buffer&& o) noexcept { *this = std::move(o); }
    Buffer& operator=(Buffer&& o) noexcept {
      std::swap(pool_, o.pool_);
      std::swap(memory_, o.memory_);
      std::swap(capacity_, o.capacity_);
      return *this;
    }
    ~Buffer() { reset(); }
    void reset();
    explicit operator bool() const { return memory_ != nullptr; }
    std::byte* data() { return memory_.get(); }

   private:
    friend class BodyBuffers;
    BodyBuffers* pool_ = nullptr;
    std::unique_ptr<std::byte[]> memory_;
    size_t capacity_ = 0;
  };

  Buffer get(size_t size);

 private:
  static constexpr size_t kStep = 64 << 10;
  static constexpr size_t kKeep = 32 << 20;  // bytes of idle memory
  void give_back(std::unique_ptr<std::byte[]> memory, size_t capacity);

  Mutex mutex_;
  // By capacity; the last one used first.
  std::map<size_t, std::vector<std::unique_ptr<std::byte[]>>> idle_ GUARDED_BY(mutex_);
  size_t idle_bytes_ GUARDED_BY(mutex_) = 0;
};

}  // namespace larder
