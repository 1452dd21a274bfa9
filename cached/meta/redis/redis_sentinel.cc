#include "cached/meta/redis/redis_sentinel.h"

#include <fmt/format.h>

#include <algorithm>

#include "cached/base/text.h"

namespace larder {
namespace {

using Type = RedisReply::Type;
constexpr std::chrono::milliseconds kSentinelPatience{1000};  // one that is down must not cost the others' time

Deadline soon(Deadline deadline) {
  return std::min(deadline, std::chrono::steady_clock::now() + kSentinelPatience);
}

Result<RedisEndpoint> ask(const RedisEndpoint& sentinel, const RedisUrl& url, Deadline deadline) {
  auto connection = RedisConnection::connect(sentinel, {"", url.sentinel_password, 0, url.tls}, deadline);
  if (!connection) return connection.error();
  auto reply = (*connection)->call(RedisCommand("SENTINEL").add("get-master-addr-by-name").add(url.master), deadline);
  if (!reply) return reply.error();
  auto told = [&](int code, std::string_view what) {
    return make_error(code, fmt::format("Sentinel at {}: {}", sentinel.text(), what));
  };
  if (reply->is(Type::kError))
    return told(redis_error_kind(reply->text) == "NOAUTH" ? EACCES : EIO, printable(reply->text));
  if (reply->is(Type::kNil)) return told(EAGAIN, fmt::format("it knows no master '{}'", printable(url.master)));
  if (!reply->is(Type::kArray) || reply->items.size() != 2 || !reply->items[0].is_text())
    return told(EIO, "a wrong answer");
  auto port = parse_redis_endpoint("x:" + reply->items[1].text, 0);
  if (!port || port->port == 0 || reply->items[0].text.empty() || reply->items[0].text.size() > 255)
    return told(EIO, "a wrong answer");
  return RedisEndpoint{reply->items[0].text, port->port};
}

Result<std::unique_ptr<RedisConnection>> connect_if_master(const RedisEndpoint& endpoint, const RedisLogin& login,
                                                           Deadline deadline) {
  auto connection = RedisConnection::connect(endpoint, login, deadline);
  if (!connection) return connection;
  auto role = (*connection)->call(RedisCommand("ROLE"), deadline);
  if (!role) return role.error();
  const bool refused =
      role->is(Type::kError) && redis_error_kind(role->text) == "NOPERM";  // an ACL may forbid ROLE: trust the sentinel
  const bool master = role->is(Type::kArray) && !role->items.empty() && role->items[0].text == "master";
  if (!master && !refused) return make_error(EAGAIN, fmt::format("Redis at {} is not the master yet", endpoint.text()));
  return connection;
}

}  // namespace

Result<std::unique_ptr<RedisConnection>> connect_to_master(const RedisUrl& url, const RedisLogin& login,
                                                           Deadline deadline) {
  Error last = make_error(EAGAIN, "no sentinel");
  for (const RedisEndpoint& sentinel : url.endpoints) {
    auto master = ask(sentinel, url, soon(deadline));
    if (master) {
      auto connection = connect_if_master(*master, login, soon(deadline));
      if (connection) return connection;
      last = connection.error();
    } else {
      last = master.error();
    }
  }
  return last;
}

}  // namespace larder
