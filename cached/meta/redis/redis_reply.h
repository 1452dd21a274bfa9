// Redis replies, parsed by hiredis (redisReader) into our own values. Threads: a reader belongs to one. The bytes are
// untrusted: memory is bounded by what was received, a hostile length allocates nothing, and nesting ends at hiredis'
// depth of 7.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "larder/result.h"

struct redisReader;

namespace larder {

// A reply. Untrusted: types and sizes are checked where it is used.
struct RedisReply {
  enum class Type { kNil, kInteger, kText, kError, kArray };
  Type type = Type::kNil;
  int64_t integer = 0;
  std::string text;  // bulk string, status, error
  std::vector<RedisReply> items;
  bool is(Type t) const { return type == t; }
  bool is_text() const { return type == Type::kText; }
};

// Turns a stream of bytes into replies. After an error it returns only errors.
class RedisReplyReader {
 public:
  // Segments are cut at 1 MB, and the directory of 100 M objects is smaller than that.
  static constexpr uint64_t kMaxReplyBytes = 64u << 20;

  RedisReplyReader();
  ~RedisReplyReader();
  // EIO: a reply that is too large. ENOMEM.
  Status feed(std::string_view bytes);
  // The next whole reply; none if more bytes are needed. EIO: the bytes are not the protocol.
  Result<std::optional<RedisReply>> next();
  // True if a reply has begun and is not whole yet.
  bool in_reply() const { return reply_bytes_ > 0; }

 private:
  struct Free {
    void operator()(redisReader* reader) const;
  };
  const std::unique_ptr<redisReader, Free> reader_;
  uint64_t reply_bytes_ = 0;  // fed since the last whole reply
};

// The first word of an error reply ("MOVED", "WRONGTYPE").
std::string_view redis_error_kind(std::string_view text);

}  // namespace larder
