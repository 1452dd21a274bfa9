// HTTP/1.1: a few threads move all transfers of one store. https and everything that is not a plain GET goes over libcurl,
// a multi handle a thread; GETs of objects over http go over plain_worker.h, which costs half as much.
//
// A transfer is an Exchange: it makes a signed request at the moment of sending, takes the body as it comes, and
// decides after each attempt whether there is another one. The engine owns queues, slots, waits and connections, and
// knows no store.
//
// The constructor makes the process ignore SIGPIPE (OpenSSL's writes raise it).
// Threads: submit() from any thread; the functions of one Exchange are called on engine threads, one at a time.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "cached/store/digest.h"
#include "cached/store/pacer.h"
#include "larder/result.h"

namespace larder {

struct HttpRequest {
  std::string method = "GET";        // GET, HEAD, PUT, POST or DELETE
  std::string url;                   // complete and encoded: sent as it is
  std::vector<std::string> headers;  // "Name: value"; "Name:" keeps libcurl from sending its own
  std::string_view body;             // sent as it is; the exchange keeps it until it has ended
  std::shared_ptr<const void> signer;     // whose signature it has: for Dialect::repair
  std::chrono::milliseconds patience{0};  // no byte either way for this long ends the attempt; 0: the engine's stall_timeout
};

// What came back in one attempt.
struct HttpReply {
  enum class Transport {
    kOk,
    kConnect,  // no connection: name, refused, TLS
    kTimeout,  // connecting or standing still for too long
    kBroken,   // reset, cut short, not HTTP
    kStopped,  // on_head or on_body returned an error
  };
  Transport transport = Transport::kOk;
  std::string transport_error;                               // text for people
  int status = 0;                                            // 0: no reply
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
  std::string body;                                          // of a reply that is no success, up to 64 KiB
  std::string_view header(std::string_view name) const;
  bool success() const { return status == 200 || status == 204 || status == 206; }
};

struct Verdict {
  bool again = false;
  std::chrono::milliseconds wait{0};
};

class Exchange {
 public:
  virtual ~Exchange() = default;
  // The next attempt's request, signed now. An error ends the exchange through abandoned(); EAGAIN: ask again a little
  // later.
  virtual Result<HttpRequest> prepare() = 0;
  // Status 200, 204 or 206 and its headers, once, before the first byte. An error stops the attempt.
  virtual Status on_head(const HttpReply& reply) = 0;
  virtual Status on_body(std::span<const std::byte> data) = 0;
  // The attempt is over. No `again`: the exchange is over and has told whoever waits.
  virtual Verdict on_end(const HttpReply& reply) = 0;
  // Over without an attempt: prepare() failed, or the engine is being destroyed.
  virtual void abandoned(const Error& error) = 0;

  // A GET of an object's bytes: what the plain transport may carry, and what is worth the rest of these.
  virtual bool object_get() const { return false; }
  virtual std::string_view key() const { return {}; }  // of that object, as its store names it
  virtual uint64_t expected_bytes() const { return 0; }  // of the body, for the bandwidth cap
  virtual bool unwanted() const { return false; }        // nobody waits any more: the attempt may be broken off
  // No reply within HttpEngine::slow_after(); once an attempt.
  virtual void on_slow() {}
  // Where the next bytes of the body may be put without a copy, after on_head(); on_placed() instead of on_body() says how
  // many. Empty: there is no such place.
  virtual std::span<std::byte> body_room() { return {}; }
  virtual Status on_placed(size_t) { return {}; }
  // A whole body whose MD5 shall be known in on_end(): told by md5_is() before, if the transport can (several at once cost
  // little more than one, md5_lanes.h). Empty: none.
  virtual std::span<const std::byte> md5_input() const { return {}; }
  virtual void md5_is(const Md5&) {}
};

struct EngineOptions {
  int threads = 2;  // the second works while the first is busy all the time: TLS, or more than 1 GB/s
  int max_connections = 72;
  double max_requests_per_second = 0;  // 0: no cap
  double max_bandwidth = 0;            // bytes of bodies a second; 0: no cap
  bool plain = false;                  // the store is http:// and no proxy lies between
  int slow_after_ms = 2'000;           // SlowestRequests
  int connect_timeout_ms = 5'000;
  int stall_timeout_ms = 20'000;  // no byte for this long: the attempt ends
  int64_t max_transfer_speed = 0;  // bytes a second of one transfer, either way; 0: as fast as it goes
  std::string ca_file;            // empty: the system's
};

class HttpEngine {
 public:
  explicit HttpEngine(EngineOptions options);
  ~HttpEngine();  // abandons what is left
  HttpEngine(const HttpEngine&) = delete;
  HttpEngine& operator=(const HttpEngine&) = delete;

  void submit(std::shared_ptr<Exchange> exchange, bool demand);
  // What was submitted as fill for an object, and has not started, goes with demand.
  void hurry(std::string_view key);
  int concurrency_limit() const;
  std::chrono::milliseconds slow_after() const;
  uint64_t in_flight() const;
  uint64_t queued() const;

 private:
  using Clock = std::chrono::steady_clock;
  class Carrier;      // a thread that moves transfers
  class Worker;       // by libcurl
  class PlainWorker;  // by plain_worker.h
  static std::unique_ptr<Carrier> make_plain_worker(HttpEngine& engine);
  struct Job {
    std::shared_ptr<Exchange> exchange;
    bool demand = true;
    bool plain = false;
  };
  // The next job for this kind of carrier that slot and caps allow; the slot is taken. False: `ask_again` is set if only
  // a cap stands in the way.
  bool take(const Carrier& who, bool plain, Job& job, Clock::time_point& ask_again);
  void put_back(Job job);  // after its wait: before the others of its kind
  void release(const Job& job, Concurrency::Outcome outcome, std::chrono::microseconds first_byte);
  void wake_one(bool plain);
  std::deque<Job>& queue(bool demand, bool plain) { return queues_[demand][plain]; }

  const EngineOptions options_;
  mutable std::mutex mutex_;
  bool closing_ = false;
  Concurrency concurrency_;
  SlowestRequests slowest_;
  RateCap request_cap_, byte_cap_;
  std::deque<Job> queues_[2][2];
  std::vector<std::unique_ptr<Carrier>> workers_[2];  // [plain]
};

// A thread of the engine. Its transfers are its own; what it shares goes through the engine.
class HttpEngine::Carrier {
 public:
  explicit Carrier(HttpEngine& engine) : engine_(engine) {}
  virtual ~Carrier() = default;
  Carrier(const Carrier&) = delete;
  Carrier& operator=(const Carrier&) = delete;
  void start();
  void stop();  // and wait for it
  // There may be work. One interruption for however many calls, and none by the thread itself: it looks before it waits.
  void wake();
  bool busy() const { return busy_.load(std::memory_order_relaxed) > 0.75F; }

 protected:
  virtual void run() = 0;
  virtual void interrupt() = 0;
  bool stopping() const { return stop_.load(); }
  bool next_job(bool plain, Job& job);
  // Tells the exchange that an attempt is over, and keeps the job if there is another.
  void conclude(Job job, const HttpReply& reply);
  void wait_with(Job job, std::chrono::milliseconds wait) { waiting_.emplace(Clock::now() + wait, std::move(job)); }
  // How long to wait for events, at most `most`.
  std::chrono::milliseconds may_wait(Clock::time_point now, std::chrono::milliseconds most) const;
  void before_wait(Clock::time_point now) { slept_at_ = now; }
  void after_wait(Clock::time_point now);
  void abandon_waiting(const Error& error);

  HttpEngine& engine_;

 private:
  static thread_local Carrier* current_;
  std::multimap<Clock::time_point, Job> waiting_;
  Clock::time_point ask_again_ = Clock::time_point::max();
  Clock::time_point slept_at_{}, woke_at_ = Clock::now();
  Clock::duration worked_{}, waited_{};
  std::atomic<float> busy_{0};  // share of the last 20 ms or so
  std::atomic<bool> stop_{false}, woken_{false};
  std::thread thread_;
};

// What an attempt says about the store's load.
Concurrency::Outcome outcome_of(const HttpReply& reply);

}  // namespace larder
