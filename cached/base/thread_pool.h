// Threads for operations that take long. At most `limit` run at once, as many may wait; more are refused.
#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace larder {

class ThreadPool {
 public:
  explicit ThreadPool(size_t limit) : limit_(limit) {}
  ~ThreadPool() { stop(); }

  // False: too many already.
  bool run(std::function<void()> job);
  // Waits for what runs; drops what waits.
  void stop();

 private:
  void work();

  const size_t limit_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;
  std::vector<std::thread> threads_;
  size_t idle_ = 0;
  bool stopping_ = false;
};

}  // namespace larder
