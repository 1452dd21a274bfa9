// Sentinel: which Redis is the master now.
#pragma once
#include "cached/meta/redis/redis_connection.h"

namespace larder {

// Asks the sentinels in turn, then asks the Redis that they name whether it is the master (ROLE), because a sentinel
// may be behind. Blocks until the deadline. Returns a connection to the master. EAGAIN or a connection's error: no
// sentinel knows a master now (a failover); try again.
Result<std::unique_ptr<RedisConnection>> connect_to_master(const RedisUrl& url, const RedisLogin& login,
                                                           Deadline deadline);

}  // namespace larder
