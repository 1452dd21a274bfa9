#include "cached/base/thread_pool.h"

namespace larder {

bool ThreadPool::run(std::function<void()> job) {
  MutexLock lock(mutex_);
  if (stopping_ || jobs_.size() >= limit_) return false;
  jobs_.push_back(std::move(job));
  if (idle_ < jobs_.size() && threads_.size() < limit_) threads_.emplace_back([this] { work(); });
  wake_.notify_one();
  return true;
}

void ThreadPool::work() {
  MutexLock lock(mutex_);
  for (;;) {
    ++idle_;
    while (!stopping_ && jobs_.empty())
      wake_.wait(mutex_);
    --idle_;
    if (stopping_) return;
    std::function<void()> job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    job();
    job = nullptr;
    lock.lock();
  }
}

void ThreadPool::stop() {
  std::vector<std::thread> threads;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    jobs_.clear();
    threads.swap(threads_);
    wake_.notify_all();
  }
  for (std::thread& t : threads)
    t.join();
}

}  // namespace larder
