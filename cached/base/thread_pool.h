// Threads for long operations. At most `limit` jobs run at once, and as many may wait; further jobs are refused.
// Threads: run() from any thread; stop() not from a job.
#pragma once
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "cached/base/mutex.h"

namespace larder {

class ThreadPool {
 public:
  explicit ThreadPool(size_t limit) : limit_(limit) {}
  ~ThreadPool() { stop(); }

  // False: too many jobs run and wait already, or the pool is stopping.
  bool run(std::function<void()> job);
  // Waits for running jobs; drops waiting ones.
  void stop();

 private:
  void work();

  const size_t limit_;
  Mutex mutex_;
  CondVar wake_;
  std::deque<std::function<void()>> jobs_ GUARDED_BY(mutex_);
  std::vector<std::thread> threads_ GUARDED_BY(mutex_);
  size_t idle_ GUARDED_BY(mutex_) = 0;
  bool stopping_ GUARDED_BY(mutex_) = false;
};

}  // namespace larder
