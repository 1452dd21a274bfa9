#include "cached/meta/redis/redis_connection.h"

#include <fmt/format.h>

#include "cached/base/text.h"

namespace larder {
namespace {

constexpr size_t kReadBytes = 256 * 1024;  // a segment takes three reads; hiredis' own 16 KiB would take forty

}  // namespace

RedisCommand& RedisCommand::add(std::string_view argument) {
  body_ += fmt::format("${}\r\n", argument.size());
  body_ += argument;
  body_ += "\r\n";
  ++count_;
  return *this;
}

RedisCommand& RedisCommand::key(std::string_view name) {
  if (key_.empty()) key_ = name;
  return add(name);
}

std::string RedisCommand::wire() const {
  return fmt::format("*{}\r\n", count_) + body_;
}

RedisConnection::RedisConnection(RedisEndpoint endpoint, std::unique_ptr<RedisSocket> socket)
    : endpoint_(std::move(endpoint)), socket_(std::move(socket)), buffer_(kReadBytes) {}
RedisConnection::~RedisConnection() = default;

Result<std::unique_ptr<RedisConnection>> RedisConnection::connect(const RedisEndpoint& endpoint,
                                                                  const RedisLogin& login, Deadline deadline) {
  auto told = [&](const Error& e) {
    return make_error(e.code, fmt::format("Redis at {}: {}", printable(endpoint.text()), e.message));
  };
  auto socket = RedisSocket::connect(endpoint, login.tls, deadline);
  if (!socket) return told(socket.error());
  std::unique_ptr<RedisConnection> connection(new RedisConnection(endpoint, std::move(*socket)));
  if (auto status = connection->log_in(login, deadline); !status) return status.error();
  return connection;
}

Status RedisConnection::log_in(const RedisLogin& login, Deadline deadline) {
  auto told = [&](int code, std::string_view what) {
    return make_error(code, fmt::format("Redis at {}: {}", printable(endpoint_.text()), what));
  };
  if (!login.password.empty()) {
    RedisCommand auth("AUTH");
    if (!login.user.empty()) auth.add(login.user);
    auto reply = call(auth.add(login.password), deadline);
    if (!reply) return reply.error();
    // The error's text is not repeated, because old servers put the arguments into it.
    if (reply->is(RedisReply::Type::kError)) {
      if (redis_error_kind(reply->text) == "LOADING") return told(EAGAIN, "it is still loading its data");
      return told(EACCES, "it refused the user or the password; check the metadata URL and REDIS_PASSWORD");
    }
  }
  if (login.db == 0) return {};
  auto reply = call(RedisCommand("SELECT").add(login.db), deadline);
  if (!reply) return reply.error();
  if (!reply->is(RedisReply::Type::kError)) return {};
  const std::string_view kind = redis_error_kind(reply->text);
  return told(kind == "NOAUTH" || kind == "NOPERM" ? EACCES
              : kind == "LOADING"                  ? EAGAIN
                                                   : EINVAL,
              fmt::format("database {}: {}", login.db, printable(reply->text)));
}

Error RedisConnection::failed(const Error& why) {
  broken_ = true;
  return make_error(why.code, fmt::format("Redis at {}: {}", printable(endpoint_.text()), why.message));
}

Status RedisConnection::send(const RedisCommand& command, Deadline deadline) {
  if (broken_) return make_error(ECONNRESET, "the connection to Redis broke");
  if (auto status = socket_->write(command.wire(), deadline); !status) return failed(status.error());
  ++owed_;
  return {};
}

Result<RedisReply> RedisConnection::receive(Deadline deadline) {
  if (broken_) return make_error(ECONNRESET, "the connection to Redis broke");
  while (true) {
    auto reply = reader_.next();
    if (!reply) return failed(reply.error());
    if (*reply) {
      if (owed_ > 0) --owed_;
      return std::move(**reply);
    }
    auto n = socket_->read(buffer_.data(), buffer_.size(), deadline);
    if (!n && n.error().code == ETIMEDOUT && owed_ == 0 && !reader_.in_reply()) return n.error();
    if (!n) return failed(n.error());
    if (auto fed = reader_.feed({buffer_.data(), *n}); !fed) return failed(fed.error());
  }
}

Result<RedisReply> RedisConnection::call(const RedisCommand& command, Deadline deadline) {
  if (auto status = send(command, deadline); !status) return status.error();
  return receive(deadline);
}

}  // namespace larder
