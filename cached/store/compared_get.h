// A GET of a whole object whose bytes are compared with what the store says of them, after the last was delivered: kWrongBytes if they
// differ. For what a RangeGet, which sees its own range and one reply, cannot compare: objects that come in parallel parts, and those
// whose ETag is of an upload in parts.
#pragma once
#include "cached/store/http_store.h"

namespace larder {

GetRequest compared(const StoreContext& store, GetRequest request);

}  // namespace larder
