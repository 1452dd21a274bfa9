// Sentinel: which Redis is the master now.
#pragma once
#include "cached/meta/redis/redis_connection.h"

namespace larder {

// Asks the sentinels in turn, and the Redis they name whether it is the master (ROLE): a sentinel may be behind. The
// connection to it. EAGAIN or a connection's error: nobody knows a master now (a failover); try again.
Result<std::unique_ptr<RedisConnection>> connect_to_master(const RedisUrl& url, const RedisLogin& login,
                                                           Deadline deadline);

}  // namespace larder
