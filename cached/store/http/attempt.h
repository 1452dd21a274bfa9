// One request to a store with all its attempts. An HttpAttempt signs the request when it is sent, receives the body as
// it comes, and decides after each attempt whether to make another. Its functions are called one at a time, on threads
// of its engine (engine.h).
#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cached/store/checksum/digest.h"
#include "cached/store/http/http_headers.h"
#include "larder/result.h"

namespace larder {

struct HttpRequest {
  std::string method = "GET";          // GET, HEAD, PUT, POST or DELETE
  std::string url;                     // complete and encoded: sent as it is
  std::string headers;                 // lines "name: value\r\n"; "name:\r\n" keeps libcurl from sending its own
  std::string_view body;               // sent as it is; the HttpAttempt keeps it until the request has ended
  std::shared_ptr<const void> signer;  // whose signature it has: for StoreProtocol::repair
  std::chrono::milliseconds patience{
      0};                   // no byte either way for this long ends the attempt; 0: the engine's stall_timeout
  uint32_t least_rate = 0;  // bytes a second: fewer in that time are as good as none
};

// The result of one attempt.
struct HttpReply {
  enum class Transport {
    kOk,
    kConnect,  // no connection: name, refused, TLS
    kTimeout,  // connecting or stalled for too long
    kBroken,   // reset, cut short, not HTTP
    kStopped,  // on_head or on_body returned an error
  };
  Transport transport = Transport::kOk;
  std::string transport_error;  // text for people
  int status = 0;               // 0: no reply
  HttpHeaders headers;
  std::string body;  // of a reply that is not a success, up to 64 KiB
  std::string_view header(std::string_view name) const { return headers.find(name); }
  bool success() const { return status == 200 || status == 204 || status == 206; }
};

struct Verdict {
  bool again = false;
  std::chrono::milliseconds wait{0};
};

class HttpAttempt {
 public:
  virtual ~HttpAttempt() = default;
  // The next attempt's request, signed now. An error ends the request through abandoned(); EAGAIN: ask again a little
  // later.
  virtual Result<HttpRequest> prepare() = 0;
  // Status 200, 204 or 206 and its headers, once, before the first byte. An error stops the attempt.
  virtual Status on_head(const HttpReply& reply) = 0;
  virtual Status on_body(std::span<const std::byte> data) = 0;
  // The attempt is over. Without `again` the request is over, and its waiters have been told.
  virtual Verdict on_end(const HttpReply& reply) = 0;
  // The request is over without an attempt: prepare() failed, or the engine is being destroyed.
  virtual void abandoned(const Error& error) = 0;

  // True for a GET of an object's bytes. Only such a request may go over the plain transport and uses the functions
  // below.
  virtual bool object_get() const { return false; }
  virtual std::string_view key() const { return {}; }    // of that object, as its store names it
  virtual uint64_t expected_bytes() const { return 0; }  // of the body, for the bandwidth cap
  virtual bool unwanted() const { return false; }        // nobody waits any more: the attempt may be aborted
  // No reply within HttpEngine::slow_after(); once an attempt.
  virtual void on_slow() {}
  // True if the body will be kept in body_room(). Otherwise a small body is better received into memory that is reused
  // and still in the processor's cache.
  virtual bool keeps_body() const { return true; }
  // Where the next bytes of the body may be put without a copy, after on_head(). on_placed(), instead of on_body(),
  // tells their number. Empty: there is no such place.
  virtual std::span<std::byte> body_room() { return {}; }
  virtual Status on_placed(size_t) { return {}; }
  // A whole body whose MD5 on_end() needs. The transport may tell it by md5_is() before (several at once cost little
  // more than one, md5_lanes.h). Empty: none.
  virtual std::span<const std::byte> md5_input() const { return {}; }
  virtual void md5_is(const Md5&) {}
};

}  // namespace larder
