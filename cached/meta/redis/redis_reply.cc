#include "cached/meta/redis/redis_reply.h"

#include <fmt/format.h>
#include <hiredis.h>

#include "cached/base/text.h"

namespace larder {
namespace {

// ---- hiredis' parser builds RedisReply. An array grows as its items arrive, so that a length alone costs no memory.
// An item's parent does not grow while the item is filled, so the pointers that the parser keeps stay valid. Only the
// root has an allocation of its own.

RedisReply* place(const redisReadTask* task, RedisReply::Type type) {
  RedisReply* reply = nullptr;
  if (task->parent == nullptr) {
    reply = std::make_unique<RedisReply>().release();  // freed by free_reply() or taken over by next()
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
void* make_array(const redisReadTask* task, int) {
  return place(task, RedisReply::Type::kArray);
}
void* make_integer(const redisReadTask* task, long long value) {
  RedisReply* reply = place(task, RedisReply::Type::kInteger);
  reply->integer = value;
  return reply;
}
void* make_nil(const redisReadTask* task) {
  return place(task, RedisReply::Type::kNil);
}
void free_reply(void* reply) {
  std::unique_ptr<RedisReply>(static_cast<RedisReply*>(reply));
}

redisReplyObjectFunctions kFunctions = {make_string, make_array, make_integer, make_nil, free_reply};

}  // namespace

std::string_view redis_error_kind(std::string_view text) {
  return text.substr(0, text.find(' '));
}

void RedisReplyReader::Free::operator()(redisReader* reader) const {
  redisReaderFree(reader);
}

RedisReplyReader::RedisReplyReader() : reader_(redisReaderCreateWithFunctions(&kFunctions)) {
  if (reader_) reader_->maxbuf = 0;  // keep the buffer: it is filled again at once
}
RedisReplyReader::~RedisReplyReader() = default;

Status RedisReplyReader::feed(std::string_view bytes) {
  reply_bytes_ += bytes.size();
  if (reply_bytes_ > kMaxReplyBytes) return make_error(EIO, "a reply is too large");
  if (!reader_ || redisReaderFeed(reader_.get(), bytes.data(), bytes.size()) != REDIS_OK)
    return make_error(ENOMEM, "out of memory");
  return {};
}

Result<std::optional<RedisReply>> RedisReplyReader::next() {
  void* whole = nullptr;
  if (!reader_) return make_error(ENOMEM, "out of memory");
  if (redisReaderGetReply(reader_.get(), &whole) != REDIS_OK)
    return make_error(EIO, fmt::format("no Redis answers there: {}", printable(reader_->errstr)));
  if (whole == nullptr) return std::optional<RedisReply>();
  const std::unique_ptr<RedisReply> reply(static_cast<RedisReply*>(whole));
  reply_bytes_ = 0;
  return std::optional<RedisReply>(std::move(*reply));
}

}  // namespace larder
