// Small records in Redis, parsed strictly: anything but what Larder writes is an error. Nothing here uses the network.
// Threads: any.
#pragma once
#include <optional>
#include <string_view>

#include "cached/meta/meta.h"
#include "cached/meta/redis/redis_reply.h"
#include "cached/meta/redis/redis_url.h"

namespace larder {

inline constexpr int kRedisSchema = 1;

// EPROTO: a newer release wrote it.
Error newer_schema(const RedisUrl& url, std::string_view found);

// Parses a HGETALL of ds:{NAME}:def. EIO with what is wrong and what to do, or newer_schema().
Result<DatasetDef> parse_definition(const RedisUrl& url, std::string_view name, const RedisReply& flat);

// True for 1 to 255 bytes without blanks and control bytes.
bool valid_node_name(std::string_view name);

// A heartbeat: "version files bytes expires_ms".
std::optional<NodeInfo> parse_beat(std::string_view node, std::string_view text, int64_t now_ms);

}  // namespace larder
