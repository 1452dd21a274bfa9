// A GET of a whole object that compares the bytes with the store's checksum, after the last was delivered: kWrongBytes
// if they differ, kDoubtfulBytes if the comparison is a guess. It is for objects that a RangeGet cannot compare, since
// that sees one range and one reply: those that come in parallel parts, and those whose ETag is of an upload in parts.
// Replies to parts have no sum of the whole, so a HEAD beside them asks for its CRC; without a CRC it compares the
// ETag, at 1.4 s of processor time a GiB.
#pragma once
#include "cached/store/http/http_store.h"

namespace larder {

GetRequest compared(const std::shared_ptr<StoreContext>& store, GetRequest request);

}  // namespace larder
