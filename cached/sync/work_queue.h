// Threads that do what is queued. Threads: any.
#pragma once
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace larder {

class WorkQueue {
 public:
  WorkQueue(int threads, size_t max_waiting);
  ~WorkQueue();  // waits for what is under way; what waits is dropped
  WorkQueue(const WorkQueue&) = delete;
  WorkQueue& operator=(const WorkQueue&) = delete;

  // Blocks while max_waiting others wait. Not from a task.
  void push(std::function<void()> task);
  // Before all others, without a bound: the rest of a task that runs. From a task.
  void push_urgent(std::function<void()> task);
  // Until nothing waits and nothing runs. Not from a task.
  void wait_idle();

 private:
  void work();

  const size_t max_waiting_;
  std::mutex mutex_;
  std::condition_variable work_, room_, idle_;
  std::deque<std::function<void()>> urgent_, waiting_;
  int running_ = 0;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace larder
