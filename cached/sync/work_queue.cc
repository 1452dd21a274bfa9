#include "cached/sync/work_queue.h"

namespace larder {

WorkQueue::WorkQueue(int threads, size_t max_waiting) : max_waiting_(max_waiting) {
  for (int i = 0; i < threads; ++i)
    threads_.emplace_back([this] { work(); });
}

WorkQueue::~WorkQueue() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  work_.notify_all();
  for (auto& thread : threads_)
    thread.join();
}

void WorkQueue::push(std::function<void()> task) {
  {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [this] { return waiting_.size() < max_waiting_; });
    waiting_.push_back(std::move(task));
  }
  work_.notify_one();
}

void WorkQueue::push_urgent(std::function<void()> task) {
  {
    std::lock_guard lock(mutex_);
    urgent_.push_back(std::move(task));
  }
  work_.notify_one();
}

void WorkQueue::wait_idle() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return waiting_.empty() && urgent_.empty() && running_ == 0; });
}

void WorkQueue::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    work_.wait(lock, [this] { return stop_ || !urgent_.empty() || !waiting_.empty(); });
    if (stop_) return;
    auto& queue = urgent_.empty() ? waiting_ : urgent_;
    std::function<void()> task = std::move(queue.front());
    queue.pop_front();
    ++running_;
    lock.unlock();
    room_.notify_one();
    task();
    task = nullptr;
    lock.lock();
    if (--running_ == 0 && waiting_.empty() && urgent_.empty()) idle_.notify_all();
  }
}

}  // namespace larder
