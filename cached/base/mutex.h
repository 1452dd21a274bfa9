// Mutexes that clang's thread-safety analysis checks (`make lint`): members say GUARDED_BY, functions REQUIRES or
// EXCLUDES. g++ compiles the annotations away. The order in which mutexes are taken is in docs/locks.md.
//
// Every mutex of the daemon is a Mutex; std::mutex appears in this file alone (tests/tools/lint.py checks it).
#pragma once
#include <chrono>
#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define LARDER_THREAD_ATTRIBUTE(x) __attribute__((x))
#else
#define LARDER_THREAD_ATTRIBUTE(x)
#endif

#define CAPABILITY(name) LARDER_THREAD_ATTRIBUTE(capability(name))
#define SCOPED_CAPABILITY LARDER_THREAD_ATTRIBUTE(scoped_lockable)
#define GUARDED_BY(mutex) LARDER_THREAD_ATTRIBUTE(guarded_by(mutex))
#define PT_GUARDED_BY(mutex) LARDER_THREAD_ATTRIBUTE(pt_guarded_by(mutex))
#define ACQUIRED_BEFORE(...) LARDER_THREAD_ATTRIBUTE(acquired_before(__VA_ARGS__))
#define ACQUIRED_AFTER(...) LARDER_THREAD_ATTRIBUTE(acquired_after(__VA_ARGS__))
#define REQUIRES(...) LARDER_THREAD_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) LARDER_THREAD_ATTRIBUTE(locks_excluded(__VA_ARGS__))
#define ACQUIRE(...) LARDER_THREAD_ATTRIBUTE(acquire_capability(__VA_ARGS__))
#define RELEASE(...) LARDER_THREAD_ATTRIBUTE(release_capability(__VA_ARGS__))
#define TRY_ACQUIRE(...) LARDER_THREAD_ATTRIBUTE(try_acquire_capability(__VA_ARGS__))
#define ASSERT_CAPABILITY(x) LARDER_THREAD_ATTRIBUTE(assert_capability(x))
#define RETURN_CAPABILITY(x) LARDER_THREAD_ATTRIBUTE(lock_returned(x))
#define NO_THREAD_SAFETY_ANALYSIS LARDER_THREAD_ATTRIBUTE(no_thread_safety_analysis)

namespace larder {

class CondVar;

class CAPABILITY("mutex") Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void lock() ACQUIRE() { mutex_.lock(); }
  void unlock() RELEASE() { mutex_.unlock(); }
  bool try_lock() TRY_ACQUIRE(true) { return mutex_.try_lock(); }
  // For callbacks and lambdas, into which the analysis does not follow a lock that their caller holds.
  void assert_held() const ASSERT_CAPABILITY(this) {}

 private:
  friend class CondVar;
  std::mutex mutex_;
};

// Holds a mutex for a scope; unlock() and lock() in between are checked too.
class SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() RELEASE() {
    if (held_) mutex_.unlock();
  }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  void unlock() RELEASE() {
    held_ = false;
    mutex_.unlock();
  }
  void lock() ACQUIRE() {
    mutex_.lock();
    held_ = true;
  }

 private:
  Mutex& mutex_;
  bool held_ = true;
};

// A condition variable of a Mutex. Waits return spuriously: wait in a loop that tests the condition, where the analysis
// sees that the lock is held (it does not look into predicates).
class CondVar {
 public:
  void wait(Mutex& mutex) REQUIRES(mutex) {
    std::unique_lock lock(mutex.mutex_, std::adopt_lock);
    condition_.wait(lock);
    lock.release();
  }
  // False at the deadline.
  template <typename Clock, typename Duration>
  bool wait_until(Mutex& mutex, const std::chrono::time_point<Clock, Duration>& deadline) REQUIRES(mutex) {
    std::unique_lock lock(mutex.mutex_, std::adopt_lock);
    const bool woken = condition_.wait_until(lock, deadline) == std::cv_status::no_timeout;
    lock.release();
    return woken;
  }
  // False when `limit` has passed.
  template <typename Rep, typename Period>
  bool wait_for(Mutex& mutex, const std::chrono::duration<Rep, Period>& limit) REQUIRES(mutex) {
    return wait_until(mutex, std::chrono::steady_clock::now() + limit);
  }
  void notify_one() { condition_.notify_one(); }
  void notify_all() { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

}  // namespace larder
