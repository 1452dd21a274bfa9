// A list page or a HEAD: a request whose whole reply is kept.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "cached/store/http/http_store.h"

namespace larder {

struct Answer {
  HttpReply head;
  std::string body;
};

// Calls `done` once, on one of the store's threads, after all retries.
void ask(std::shared_ptr<StoreContext> store, StoreCall call, std::function<void(Result<Answer>)> done);
// The CRC of the version with this etag; nothing if the store has none, has another version, or does not say.
void ask_crc(const std::shared_ptr<StoreContext>& store, const std::string& key, const std::string& if_match,
             std::function<void(std::optional<CrcSum>)> done);
// The same, but blocks for the result.
Result<Answer> ask(std::shared_ptr<StoreContext> store, StoreCall call);

}  // namespace larder
