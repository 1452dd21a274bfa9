// TLS over a RedisSocket. OpenSSL works on memory; the socket moves the bytes and keeps the deadlines. Threads: one at
// a time. The socket must outlive the session.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "cached/meta/redis/redis_socket.h"

struct ssl_st;
struct ssl_ctx_st;

namespace larder {

class RedisTlsSession {
 public:
  // Verifies the chain and the name (or address) unless tls.verify is off. TLS 1.2 at least.
  static Result<std::unique_ptr<RedisTlsSession>> start(RedisSocket& socket, const std::string& host,
                                                        const RedisTls& tls, Deadline deadline);
  Status write(std::string_view bytes, Deadline deadline);
  Result<size_t> read(char* to, size_t capacity, Deadline deadline);

 private:
  struct Free {
    void operator()(ssl_st* ssl) const;
    void operator()(ssl_ctx_st* context) const;
  };
  explicit RedisTlsSession(RedisSocket& socket) : socket_(socket) {}
  Status set_up(const std::string& host, const RedisTls& tls);
  Status step(int result, Deadline deadline, const char* doing);
  Status flush(Deadline deadline);
  Status feed(Deadline deadline);

  RedisSocket& socket_;
  std::unique_ptr<ssl_ctx_st, Free> context_;
  std::unique_ptr<ssl_st, Free> ssl_;
};

}  // namespace larder
