// A thread of an HttpEngine that moves transfers. It owns its transfers and shares everything else through the engine.
// Subclasses move the bytes: curl_transport.cc, plain_transport.h.
#pragma once
#include <atomic>
#include <chrono>
#include <map>
#include <thread>

#include "cached/store/http/engine.h"

namespace larder {

class HttpEngine::TransportThread {
 public:
  explicit TransportThread(HttpEngine& engine) : engine_(engine) {}
  virtual ~TransportThread() = default;
  TransportThread(const TransportThread&) = delete;
  TransportThread& operator=(const TransportThread&) = delete;
  void start();
  void stop();  // and wait for it
  // Tells that there may be work. Many calls cause one wake-up, and calls by the thread itself none: it looks before it
  // waits.
  void wake();
  bool busy() const { return busy_.load(std::memory_order_relaxed) > 0.75F; }

 protected:
  virtual void run() = 0;
  virtual void interrupt() = 0;
  bool stopping() const { return stop_.load(); }
  bool next_job(bool plain, Job& job);
  // Tells the HttpAttempt that an attempt is over, and keeps the job if there is another.
  void conclude(Job job, const HttpReply& reply);
  void wait_with(Job job, std::chrono::milliseconds wait) { waiting_.emplace(Clock::now() + wait, std::move(job)); }
  // How long to wait for events, at most `most`.
  std::chrono::milliseconds may_wait(Clock::time_point now, std::chrono::milliseconds most) const;
  void before_wait(Clock::time_point now) { slept_at_ = now; }
  void after_wait(Clock::time_point now);
  void abandon_waiting(const Error& error);

  HttpEngine& engine_;

 private:
  static thread_local TransportThread* current_;
  std::multimap<Clock::time_point, Job> waiting_;
  Clock::time_point ask_again_ = Clock::time_point::max();
  Clock::time_point slept_at_{}, woke_at_ = Clock::now();
  Clock::duration worked_{}, waited_{};
  std::atomic<float> busy_{0};  // share of the last 20 ms or so
  std::atomic<bool> stop_{false}, woken_{false};
  std::thread thread_;
};

// What an attempt tells about the store's load.
Concurrency::Outcome outcome_of(const HttpReply& reply);

}  // namespace larder
