// HTTP/1.1: a few threads move all transfers of one store. https and everything that is not a plain GET goes over
// libcurl, a multi handle a thread; GETs of objects over http go over plain_transport.h, which costs half as much.
//
// A transfer is an HttpAttempt (attempt.h). The engine owns queues, slots, waits and connections, and knows no store.
//
// The constructor makes the process ignore SIGPIPE (OpenSSL's writes raise it).
// Threads: submit() from any thread; the functions of one HttpAttempt are called on engine threads, one at a time.
#pragma once
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cached/base/mutex.h"
#include "cached/store/http/attempt.h"
#include "cached/store/http/pacer.h"

namespace larder {

struct EngineOptions {
  int threads = 2;  // the second helps only if the first is always busy: TLS, or more than 1 GB/s
  int max_connections = 72;
  double max_requests_per_second = 0;  // 0: no cap
  double max_bandwidth = 0;            // bytes of bodies a second; 0: no cap
  bool plain = false;                  // the store is http://, without a proxy
  int slow_after_ms = 2'000;           // SlowestRequests
  int connect_timeout_ms = 5'000;
  int stall_timeout_ms = 20'000;   // no byte for this long: the attempt ends
  int64_t max_transfer_speed = 0;  // bytes a second of one transfer, either way; 0: no limit
  std::string ca_file;             // empty: the system's
};

class HttpEngine {
 public:
  explicit HttpEngine(EngineOptions options);
  ~HttpEngine();  // abandons unfinished requests
  HttpEngine(const HttpEngine&) = delete;
  HttpEngine& operator=(const HttpEngine&) = delete;

  void submit(std::shared_ptr<HttpAttempt> exchange, bool demand);
  // Requests for this object that were submitted as fill and have not started become demand.
  void hurry(std::string_view key);
  int concurrency_limit() const;
  std::chrono::milliseconds slow_after() const;
  uint64_t in_flight() const;
  uint64_t queued() const;

 private:
  using Clock = std::chrono::steady_clock;
  class TransportThread;  // a thread that moves transfers (transport_thread.h)
  class CurlTransport;    // by libcurl (curl_transport.cc)
  class PlainTransport;   // by plain_transport.h
  static std::unique_ptr<TransportThread> make_curl_worker(HttpEngine& engine);
  static std::unique_ptr<TransportThread> make_plain_worker(HttpEngine& engine);
  struct Job {
    std::shared_ptr<HttpAttempt> exchange;
    bool demand = true;
    bool plain = false;
  };
  // The next job for this kind of thread that slots and caps allow; takes the slot. False: there is none; `ask_again`
  // is set if only a cap prevents it.
  bool take(const TransportThread& who, bool plain, Job& job, Clock::time_point& ask_again);
  void put_back(Job job);  // after its wait: goes before the others of its kind
  void release(const Job& job, Concurrency::Outcome outcome, std::chrono::microseconds first_byte);
  void wake_one(bool plain);
  std::deque<Job>& queue(bool demand, bool plain) REQUIRES(mutex_) { return queues_[demand][plain]; }

  const EngineOptions options_;
  mutable Mutex mutex_;
  bool closing_ GUARDED_BY(mutex_) = false;
  Concurrency concurrency_ GUARDED_BY(mutex_);
  SlowestRequests slowest_ GUARDED_BY(mutex_);
  RateCap request_cap_ GUARDED_BY(mutex_);
  RateCap byte_cap_ GUARDED_BY(mutex_);
  std::deque<Job> queues_[2][2] GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<TransportThread>> workers_[2];  // [plain]; constant once they run
};

}  // namespace larder
