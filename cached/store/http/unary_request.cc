#include "cached/store/http/unary_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <future>

namespace larder {
namespace {

// A person waits for a list or a head: a wrong endpoint shall be told in a second, not after all the retries of a GET.
constexpr int kInteractiveConnectRetries = 3;

// Bytes a second: a page of 1,000 keys comes within minutes, or the list fails.
constexpr uint32_t kLeastListRate = 1024;

class UnaryRequest final : public StoreExchange {
 public:
  UnaryRequest(std::shared_ptr<StoreContext> store, StoreCall call, std::function<void(Result<Answer>)> done)
      : StoreExchange(std::move(store), true), call_(std::move(call)), done_(std::move(done)) {}

 protected:
  StoreCall call() const override { return call_; }
  std::string object() const override { return store_->dialect->name(call_.key); }
  void count_attempt() override {
    if (call_.bucket) store_->lists.fetch_add(1, std::memory_order_relaxed);
  }
  Status head(const HttpReply& reply) override {
    answer_ = {reply, {}};
    return {};
  }
  Status body(std::span<const std::byte> data) override {
    const size_t limit = store_->dialect->max_list_body();
    if (answer_.body.size() + data.size() > limit)
      return make_error(EIO, fmt::format("{}: a reply of more than {} MiB", object(), limit >> 20));
    answer_.body.append(reinterpret_cast<const char*>(data.data()), data.size());
    return {};
  }
  Status complete() override { return {}; }
  void finish(Status status) override {
    auto done = std::move(done_);
    if (status.ok())
      done(std::move(answer_));
    else
      done(status.error());
  }
  uint64_t progress() const override { return 0; }
  uint32_t least_rate() const override { return call_.bucket && call_.method == "GET" ? kLeastListRate : 0; }
  int connect_retries() const override { return std::min(kInteractiveConnectRetries, store_->options.retries); }

 private:
  const StoreCall call_;
  Answer answer_;
  std::function<void(Result<Answer>)> done_;
};

}  // namespace

void ask(std::shared_ptr<StoreContext> store, StoreCall call, std::function<void(Result<Answer>)> done) {
  HttpEngine& engine = *store->engine;
  engine.submit(std::make_shared<UnaryRequest>(std::move(store), std::move(call), std::move(done)), true);
}

void ask_crc(const std::shared_ptr<StoreContext>& store, const std::string& key, const std::string& if_match,
             std::function<void(std::optional<CrcSum>)> done) {
  StoreCall call;
  call.method = "HEAD";
  call.key = key;
  call.headers.emplace_back("if-match", "\"" + if_match + "\"");
  call.tell_checksum = true;
  ask(store, std::move(call), [store, if_match, done = std::move(done)](Result<Answer> answer) {
    const bool same = answer.ok() && clean_etag(answer->head.header("etag")) == if_match;
    done(same ? store->dialect->checksum(answer->head).crc : std::nullopt);
  });
}

Result<Answer> ask(std::shared_ptr<StoreContext> store, StoreCall call) {
  std::promise<Result<Answer>> promise;
  ask(std::move(store), std::move(call), [&promise](Result<Answer> answer) { promise.set_value(std::move(answer)); });
  return promise.get_future().get();
}

}  // namespace larder
