// Runs queued tasks on its own threads. Threads: push() and wait_idle() from any thread but its own.
#pragma once
#include <cstddef>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "cached/base/mutex.h"

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
  // Blocks. The next task, counted as running; none: the queue stops.
  std::function<void()> take();
  void ended();
  bool idle_locked() const REQUIRES(mutex_) { return waiting_.empty() && urgent_.empty() && running_ == 0; }

  const size_t max_waiting_;
  Mutex mutex_;
  CondVar work_, room_, idle_;
  std::deque<std::function<void()>> urgent_ GUARDED_BY(mutex_), waiting_ GUARDED_BY(mutex_);
  int running_ GUARDED_BY(mutex_) = 0;
  bool stop_ GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace larder
