#include "cached/sync/work_queue.h"

namespace larder {

WorkQueue::WorkQueue(int threads, size_t max_waiting) : max_waiting_(max_waiting) {
  for (int i = 0; i < threads; ++i)
    threads_.emplace_back([this] { work(); });
}

WorkQueue::~WorkQueue() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
  }
  work_.notify_all();
  for (auto& thread : threads_)
    thread.join();
}

void WorkQueue::push(std::function<void()> task) {
  {
    MutexLock lock(mutex_);
    while (waiting_.size() >= max_waiting_)
      room_.wait(mutex_);
    waiting_.push_back(std::move(task));
  }
  work_.notify_one();
}

void WorkQueue::push_urgent(std::function<void()> task) {
  {
    MutexLock lock(mutex_);
    urgent_.push_back(std::move(task));
  }
  work_.notify_one();
}

void WorkQueue::wait_idle() {
  MutexLock lock(mutex_);
  while (!idle_locked())
    idle_.wait(mutex_);
}

std::function<void()> WorkQueue::take() {
  MutexLock lock(mutex_);
  while (!stop_ && urgent_.empty() && waiting_.empty())
    work_.wait(mutex_);
  if (stop_) return nullptr;
  auto& queue = urgent_.empty() ? waiting_ : urgent_;
  std::function<void()> task = std::move(queue.front());
  queue.pop_front();
  ++running_;
  return task;
}

void WorkQueue::ended() {
  MutexLock lock(mutex_);
  --running_;
  if (idle_locked()) idle_.notify_all();
}

void WorkQueue::work() {
  while (std::function<void()> task = take()) {
    room_.notify_one();
    task();
    task = nullptr;  // what it owns goes before the queue may be idle
    ended();
  }
}

}  // namespace larder
