// HTTP/1.1 over libcurl: a few threads, each with its own multi handle, move all transfers of one store.
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
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "cached/store/pacer.h"
#include "larder/result.h"

namespace larder {

struct HttpRequest {
  std::string method = "GET";        // GET, HEAD, PUT, POST or DELETE
  std::string url;                   // complete and encoded: sent as it is
  std::vector<std::string> headers;  // "Name: value"; "Name:" keeps libcurl from sending its own
  std::string_view body;             // sent as it is; the exchange keeps it until it has ended
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
};

struct EngineOptions {
  int threads = 2;  // one moves 12-14 k GET/s of 110 KB (measured); two leave room for TLS
  int max_connections = 64;
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
  int concurrency_limit() const;
  uint64_t in_flight() const;
  uint64_t queued() const;

 private:
  class Worker;
  struct Job {
    std::shared_ptr<Exchange> exchange;
    bool demand = true;
  };
  // The next job that a slot is free for; the slot is taken.
  bool take(Job& job);
  void put_back(Job job);  // after its wait: before the others of its kind
  void release(const Job& job, Concurrency::Outcome outcome);
  void wake_idlest();

  const EngineOptions options_;
  mutable std::mutex mutex_;
  bool closing_ = false;
  Concurrency concurrency_;
  std::deque<Job> demand_, fill_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace larder
