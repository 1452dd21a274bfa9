// A GET of one range of one object, as one HttpAttempt: delivers the bytes, resumes where a body was cut, and proves
// that it is the object that was listed.
#pragma once
#include <functional>
#include <memory>

#include "cached/store/http/http_store.h"

namespace larder {

// `cancelled`: nobody waits any more (a part of a request that failed elsewhere); may be empty.
std::shared_ptr<HttpAttempt> make_range_get(std::shared_ptr<StoreContext> store, GetRequest request,
                                            std::function<bool()> cancelled = {});

}  // namespace larder
