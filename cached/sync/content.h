// Compares the bytes of two objects of one size: by the MD5 that a store calls ETag where that is enough, else by
// reading them. Threads: any.
#pragma once
#include "cached/sync/endpoint.h"
#include "cached/sync/limits.h"

namespace larder {

// Blocks. Reads nothing if both etags are MD5s, one side if one is (or is the MD5 of parts of a size that can be
// guessed), both otherwise.
Result<bool> same_content(Endpoint& a, const ObjectInfo& of_a, Endpoint& b, const ObjectInfo& of_b, RateLimit& rate);

}  // namespace larder
