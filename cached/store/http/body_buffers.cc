#include "cached/store/http/body_buffers.h"

namespace larder {

BodyBuffers::Buffer BodyBuffers::get(size_t size) {
  Buffer out;
  out.pool_ = this;
  out.capacity_ = (size / kStep + 1) * kStep;
  {
    MutexLock lock(mutex_);
    auto& idle = idle_[out.capacity_];
    if (!idle.empty()) {
      out.memory_ = std::move(idle.back());
      idle.pop_back();
      idle_bytes_ -= out.capacity_;
    }
  }
  if (!out.memory_) out.memory_ = std::make_unique_for_overwrite<std::byte[]>(out.capacity_);
  return out;
}

void BodyBuffers::Buffer::reset() {
  if (memory_) pool_->give_back(std::move(memory_), capacity_);
  capacity_ = 0;
}

void BodyBuffers::give_back(std::unique_ptr<std::byte[]> memory, size_t capacity) {
  MutexLock lock(mutex_);
  if (idle_bytes_ + capacity > kKeep) return;
  idle_bytes_ += capacity;
  idle_[capacity].push_back(std::move(memory));
}

}  // namespace larder
