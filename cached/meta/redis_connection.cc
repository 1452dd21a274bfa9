#include "cached/meta/redis_connection.h"

#include <fmt/format.h>
#include <hiredis.h>

#include "cached/store/errors.h"

namespace larder {
namespace {

constexpr size_t kReadBytes = 256 * 1024;       // a segment takes three reads; hiredis' own 16 KiB would take forty
constexpr uint64_t kMaxReplyBytes = 64u << 20;  // segments are cut at 1 MB, a directory of 100 M objects has less

// ---- hiredis' parser builds RedisReply
// --------------------------------------------------------------------------------- An array grows as its items arrive,
// so that a length alone costs no memory. While an item is filled its parent does not grow: the pointers that the
// parser keeps stay good. Only the root is on the heap by itself.

RedisReply* place(const redisReadTask* task, RedisReply::Type type) {
  RedisReply* reply = nullptr;
  if (task->parent == nullptr) {
    reply = std::make_unique<RedisReply>().release();  // freed by free_reply() or taken over by receive()
  } else {
    reply = &static_cast<RedisReply*>(task->parent->obj)->items.emplace_back();
  }
  reply->type = type;
  return reply;
}

void* make_string(const redisReadTask* task, char* text, size_t size) {
  RedisReply* reply = place(task, task->type == REDIS_REPLY_ERROR ? RedisReply::Type::kError : RedisReply::Type::kText);
  reply->text.assign(text, size);
  return reply;
}
void* make_array(const redisReadTask* task, int) { return place(task, RedisReply::Type::kArray); }
void* make_integer(const redisReadTask* task, long long value) {
  RedisReply* reply = place(task, RedisReply::Type::kInteger);
  reply->integer = value;
  return reply;
}
void* make_nil(const redisReadTask* task) { return place(task, RedisReply::Type::kNil); }
void free_reply(void* reply) { std::unique_ptr<RedisReply>(static_cast<RedisReply*>(reply)); }

redisReplyObjectFunctions kFunctions = {make_string, make_array, make_integer, make_nil, free_reply};

}  // namespace

std::string_view redis_error_kind(std::string_view text) { return text.substr(0, text.find(' ')); }

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

std::string RedisCommand::wire() const { return fmt::format("*{}\r\n", count_) + body_; }

void RedisConnection::ReaderFree::operator()(redisReader* reader) const { redisReaderFree(reader); }

RedisConnection::RedisConnection(RedisEndpoint endpoint, std::unique_ptr<RedisSocket> socket)
    : endpoint_(std::move(endpoint)),
      socket_(std::move(socket)),
      reader_(redisReaderCreateWithFunctions(&kFunctions)),
      buffer_(kReadBytes) {
  if (reader_) reader_->maxbuf = 0;  // keep the buffer: it is filled again at once
  broken_ = !reader_;
}
RedisConnection::~RedisConnection() = default;

Result<std::unique_ptr<RedisConnection>> RedisConnection::connect(const RedisEndpoint& endpoint,
                                                                  const RedisLogin& login, Deadline deadline) {
  auto told = [&](const Error& e) {
    return make_error(e.code, fmt::format("Redis at {}: {}", printable(endpoint.text()), e.message));
  };
  auto socket = RedisSocket::connect(endpoint, login.tls, deadline);
  if (!socket) return told(socket.error());
  std::unique_ptr<RedisConnection> connection(new RedisConnection(endpoint, std::move(*socket)));
  if (connection->broken_) return told(make_error(ENOMEM, "out of memory"));
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
    // Its text is not repeated: old servers put the arguments into it.
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
    void* whole = nullptr;
    if (redisReaderGetReply(reader_.get(), &whole) != REDIS_OK)
      return failed(make_error(EIO, fmt::format("no Redis answers there: {}", printable(reader_->errstr))));
    if (whole != nullptr) {
      const std::unique_ptr<RedisReply> reply(static_cast<RedisReply*>(whole));
      reply_bytes_ = 0;
      if (owed_ > 0) --owed_;
      return std::move(*reply);
    }
    auto n = socket_->read(buffer_.data(), buffer_.size(), deadline);
    if (!n && n.error().code == ETIMEDOUT && owed_ == 0 && reply_bytes_ == 0) return n.error();
    if (!n) return failed(n.error());
    reply_bytes_ += *n;
    if (reply_bytes_ > kMaxReplyBytes) return failed(make_error(EIO, "a reply is too large"));
    if (redisReaderFeed(reader_.get(), buffer_.data(), *n) != REDIS_OK)
      return failed(make_error(ENOMEM, "out of memory"));
  }
}

Result<RedisReply> RedisConnection::call(const RedisCommand& command, Deadline deadline) {
  if (auto status = send(command, deadline); !status) return status.error();
  return receive(deadline);
}

}  // namespace larder
