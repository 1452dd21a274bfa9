// Reads one dataset version from Redis. Threads: any; the functions block.
#pragma once
#include "cached/meta/redis/redis_directory.h"
#include "cached/meta/redis/redis_meta.h"

namespace larder {

// Parses ds:{NAME}:VER:meta. EIO: it is missing or wrong.
Result<VersionInfo> parse_version_info(std::string_view name, uint64_t version, const RedisReply& flat);

// The rows of a version. ENOENT: Redis no longer offers it.
Result<std::vector<SegmentRow>> read_directory(RedisShared& shared, std::string_view name, uint64_t version);

Status load_version(RedisShared& shared, std::string_view name, uint64_t version, const ObjectReceiver& object);

}  // namespace larder
