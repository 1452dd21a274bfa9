// One connection to one Redis: commands out, replies in (redis_reply.h), in order.
//
// Threads: one at a time. An error of send() or receive() leaves the connection broken(), only fit for destruction,
// with one exception: ETIMEDOUT of a receive() while no reply is owed (a subscription).
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cached/meta/redis/redis_reply.h"
#include "cached/meta/redis/redis_socket.h"

namespace larder {

// A command, encoded while arguments are added. key() says which node of a Cluster it belongs to.
class RedisCommand {
 public:
  explicit RedisCommand(std::string_view name) { add(name); }
  RedisCommand& add(std::string_view argument);
  RedisCommand& add(int64_t number) { return add(std::string_view(std::to_string(number))); }
  RedisCommand& key(std::string_view name);
  const std::string& routing_key() const { return key_; }
  std::string wire() const;

 private:
  std::string key_, body_;
  size_t count_ = 0;
};

struct RedisLogin {
  std::string user, password;
  int db = 0;
  RedisTls tls;
};

class RedisConnection {
 public:
  // Connects, logs in and selects the database. EACCES: the password is wrong or missing.
  static Result<std::unique_ptr<RedisConnection>> connect(const RedisEndpoint& endpoint, const RedisLogin& login,
                                                          Deadline deadline);
  ~RedisConnection();
  Status send(const RedisCommand& command, Deadline deadline);
  Result<RedisReply> receive(Deadline deadline);
  Result<RedisReply> call(const RedisCommand& command, Deadline deadline);
  bool broken() const { return broken_; }
  const RedisEndpoint& endpoint() const { return endpoint_; }

 private:
  RedisConnection(RedisEndpoint endpoint, std::unique_ptr<RedisSocket> socket);
  Status log_in(const RedisLogin& login, Deadline deadline);
  Error failed(const Error& why);

  const RedisEndpoint endpoint_;
  const std::unique_ptr<RedisSocket> socket_;
  RedisReplyReader reader_;
  std::vector<char> buffer_;
  size_t owed_ = 0;  // replies to commands that were sent
  bool broken_ = false;
};

}  // namespace larder
