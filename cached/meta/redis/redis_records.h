// Small records in Redis, read strictly: what is not exactly what we write is an error. Nothing here talks to the
// network.
#pragma once
#include <optional>
#include <string_view>

#include "cached/meta/meta.h"
#include "cached/meta/redis/redis_reply.h"
#include "cached/meta/redis/redis_url.h"

namespace larder {

inline constexpr int kRedisSchema = 1;

// EPROTO: written by a larder that is newer than this one.
Error newer_schema(const RedisUrl& url, std::string_view found);

// A HGETALL of ds:{NAME}:def. EIO with what is wrong and what to do, or newer_schema().
Result<DatasetDef> parse_definition(const RedisUrl& url, std::string_view name, const RedisReply& flat);

// 1 to 255 bytes, none of them a blank or a control byte.
bool valid_node_name(std::string_view name);

// A heartbeat: "version files bytes expires_ms".
std::optional<NodeInfo> parse_beat(std::string_view node, std::string_view text, int64_t now_ms);

}  // namespace larder
