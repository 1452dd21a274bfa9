// A Store over HTTP: lists, heads and gets in the words of a StoreProtocol, moved by an HttpEngine.
//
// Attempts: broken connections and retryable replies are repeated with backoff up to `retries` times without progress;
// every 64 KiB that arrived buy one more. Lists, heads and uploads give up after a minute without progress too (five if
// nobody waits); a GET of an object has its attempts. Bytes that were delivered are not asked for again: the next
// attempt is a ranged GET with If-Match.
//
// Small requests (up to 1 MiB) are delivered as one span, so that the receiver writes once; objects above 16 MiB are
// fetched by parallel ranges and still delivered in order (parallel_get.h).
#pragma once
#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "cached/store/api/filter.h"
#include "cached/store/api/store.h"
#include "cached/store/api/upload.h"
#include "cached/store/http/body_buffers.h"
#include "cached/store/http/engine.h"
#include "cached/store/http/protocol.h"

namespace larder {

struct HttpStoreOptions {
  EngineOptions engine;
  int retries = 8;  // with a fault in every tenth reply, 8 leave one failure in 10^9
  // Whole objects are compared with a checksum that the store gives: `verify` with a CRC, which costs next to nothing;
  // where there is none `verify_md5` with an MD5 (S3: the ETag). That runs at 0.77 GB/s, a quarter of what a GET of 110
  // KB costs even with many at once (md5_lanes.h), so kAuto does it where nothing else guards the bytes: over plain
  // http, not over https.
  bool verify = true;
  bool verify_md5 = true;
  bool content_md5 = true;                // uploads: Content-MD5; over plain http, or with verify=always
  uint64_t max_copy = uint64_t{5} << 30;  // what one request copies within the store: 5 GiB, S3 and BOS
  bool any_order = false;                 // the store may list in another order than that of bytes: sort here
  bool parallel_lists = true;
  Filter exclude;  // keys that lists leave out
};

Result<HttpStoreOptions> http_store_options(const StoreOptions& options, bool https);

// What an exchange needs of its store. Outlives every exchange that is under way.
struct StoreContext {
  std::unique_ptr<StoreProtocol> dialect;
  HttpStoreOptions options;
  HttpEngine* engine = nullptr;  // null once the store is being destroyed
  std::atomic<uint64_t> gets{0}, lists{0}, retries{0}, bytes{0}, errors{0}, hedges{0};
  std::atomic<bool> gives_crc{false};  // the last whole object's reply had one
  std::atomic<bool> unpacks{false};    // unless gzip is accepted: what is stored with Content-Encoding: gzip
  std::atomic<int> parts_ahead{0};     // of parallel gets: bounds their memory
  BodyBuffers buffers;
};

// Status::EIO etc. of a request; the base of all exchanges with a store: attempts, repairs, errors.
class StoreExchange : public HttpAttempt {
 public:
  StoreExchange(std::shared_ptr<StoreContext> store, bool demand);
  Result<HttpRequest> prepare() final;
  Status on_head(const HttpReply& reply) final;
  Status on_body(std::span<const std::byte> data) final;
  Verdict on_end(const HttpReply& reply) final;
  void abandoned(const Error& error) final;
  Status on_placed(size_t bytes) final;
  bool unwanted() const final { return cancelled(); }

 protected:
  virtual StoreCall call() const = 0;
  virtual std::string object() const = 0;  // for messages
  virtual void count_attempt() = 0;
  // An error from these ends the attempt: final unless it is made by again().
  virtual Status head(const HttpReply& reply) = 0;
  virtual Status body(std::span<const std::byte> data) = 0;
  virtual Status placed(size_t) { return {}; }      // so many bytes were put into body_room()
  virtual Status complete() = 0;                    // the attempt succeeded: is everything there and right?
  virtual void finish(Status status) = 0;           // exactly once, last
  virtual uint64_t progress() const = 0;            // bytes that need not be fetched again
  virtual bool has_all() const { return false; }    // every byte is there, however the reply ended
  virtual bool cancelled() const { return false; }  // nobody waits any more
  virtual std::string_view accepted_encoding() const { return "identity"; }
  virtual int connect_retries() const { return store_->options.retries; }
  // Bytes a second of a reply's body; slower ones have stalled.
  virtual uint32_t least_rate() const { return 0; }
  // Without progress; none: `retries` alone decides.
  virtual std::optional<std::chrono::seconds> patience() const;

  // An error that another attempt may cure.
  Error again(std::string message);

  const std::shared_ptr<StoreContext> store_;

 private:
  Error nobody_waits() const;
  Verdict conclude();
  Verdict retry(const Error& error, bool throttled, int allowed);
  Verdict refused(const HttpReply& reply);
  Verdict broken(const HttpReply& reply);
  void end_with(Error error);

  const bool demand_;
  std::chrono::steady_clock::time_point last_progress_;
  uint64_t progress_seen_ = 0;
  int attempts_ = 0;   // in all
  int fruitless_ = 0;  // since the last progress
  int repairs_ = 0;
  std::shared_ptr<const void> signer_;  // of the last attempt
  std::optional<std::chrono::steady_clock::time_point> keys_awaited_since_;
  bool curable_ = false;
  Status stopped_;  // why the attempt was stopped
};

class ListOrder;

class HttpStore final : public Store {
 public:
  HttpStore(std::unique_ptr<StoreProtocol> dialect, HttpStoreOptions options);
  ~HttpStore() override;
  Status list(const std::function<Status(std::vector<ObjectInfo>&&)>& page) override;
  Result<ObjectInfo> head(std::string_view key) override;
  void get(GetRequest request) override;
  void hurry(std::string_view key) override { context_->engine->hurry(key); }
  StoreCounters counters() const override;
  bool can_range(std::string_view etag) const override { return !context_->dialect->version(etag).if_match.empty(); }
  bool verifies() const override { return context_->options.verify_md5; }
  void crc_of(const ObjectInfo& object, std::function<void(std::optional<CrcSum>)> done) override;
  StoreWriter* writer() override { return writer_.get(); }
  std::string endpoint() const { return context_->dialect->endpoint(); }  // scheme://host, as requests go there

 private:
  Result<ListPage> list_page(StoreCall call);
  Status list_in_parallel(ListOrder& order);

  const std::shared_ptr<StoreContext> context_;
  std::unique_ptr<StoreWriter> writer_;  // null: the dialect has no words for it
  std::unique_ptr<HttpEngine> engine_;
};

}  // namespace larder
