// Runs queued tasks on its own threads. Threads: push() and wait_idle() from any thread but its own.
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
  ~WorkQueue();  // waits for running tasks, drops waiting ones
  WorkQueue(const WorkQueue&) = delete;
  WorkQueue& operator=(const WorkQueue&) = delete;

  // Blocks while max_waiting tasks wait. Not from a task.
  void push(std::function<void()> task);
  // Queues the rest of a running task before all others, without a bound. Only from a task.
  void push_urgent(std::function<void()> task);
  // Blocks until no task waits or runs. Not from a task.
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
