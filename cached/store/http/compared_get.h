// A GET of a whole object whose bytes are compared with what the store says of them, after the last was delivered:
// kWrongBytes if they differ, kDoubtfulBytes where that is a guess. For what a RangeGet, which sees its own range and
// one reply, cannot compare: objects that come in parallel parts, and those whose ETag is of an upload in parts. The
// parts have no sum of the whole in their replies, so a HEAD beside them asks for its CRC; without one it is the ETag,
// at 1.4 s of processor time a GiB.
#pragma once
#include "cached/store/http/http_store.h"

namespace larder {

GetRequest compared(const std::shared_ptr<StoreContext>& store, GetRequest request);

}  // namespace larder
