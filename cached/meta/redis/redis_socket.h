// A byte stream to a Redis: TCP or a Unix socket, with TLS over it for rediss://. hiredis 0.14 has no TLS, so this is
// our own.
//
// Threads: one at a time. Every wait has a deadline for the whole operation, so a peer that drips bytes is late, too.
#pragma once
#include <chrono>
#include <memory>
#include <string_view>

#include "cached/meta/redis/redis_url.h"
#include "larder/result.h"

struct redisContext;

namespace larder {

using Deadline = std::chrono::steady_clock::time_point;

class RedisTlsSession;

class RedisSocket {
 public:
  // Errors: ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH ... as connect(2); EACCES if TLS does not trust the peer.
  static Result<std::unique_ptr<RedisSocket>> connect(const RedisEndpoint& endpoint, const RedisTls& tls,
                                                      Deadline deadline);
  ~RedisSocket();
  Status write(std::string_view bytes, Deadline deadline);
  // Reads at least one byte. ETIMEDOUT: none came, and the stream is as it was. ECONNRESET: the peer closed.
  Result<size_t> read(char* to, size_t capacity, Deadline deadline);

 private:
  friend class RedisTlsSession;
  struct ContextFree {
    void operator()(redisContext* context) const;
  };
  explicit RedisSocket(std::unique_ptr<redisContext, ContextFree> context);
  Status send_plain(std::string_view bytes, Deadline deadline);
  Result<size_t> receive_plain(char* to, size_t capacity, Deadline deadline);
  Status wait(short events, Deadline deadline) const;

  std::unique_ptr<redisContext, ContextFree> context_;
  std::unique_ptr<RedisTlsSession> tls_;
};

}  // namespace larder
