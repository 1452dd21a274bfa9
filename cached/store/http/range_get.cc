#include "cached/store/http/range_get.h"

#include <fmt/format.h>

#include <charconv>
#include <cstring>
#include <optional>

#include "cached/base/mutex.h"
#include "cached/base/text.h"
#include "cached/store/http/body_check.h"
#include "cached/store/http/expected_version.h"

namespace larder {
namespace {

// Up to here a request is delivered as one span: the receiver makes one pwrite instead of one for every 16 KiB.
constexpr uint64_t kDeliverAtOnce = 1 << 20;
// Bytes a second. A modem is faster; a store that sends less keeps the connection open and nothing else.
constexpr uint32_t kLeastRate = 64;
// Above, a body seldom lies in the socket whole, and what was received elsewhere is copied.
constexpr uint64_t kReceivedAtOnce = 192 << 10;
// Up to here a whole object waits for its checksum before it is delivered, so that flipped bits cost a retry and not an
// error. 72 connections of this hold 288 MiB at worst.
constexpr uint64_t kVerifyFirst = 4 << 20;

// The three numbers of "bytes 0-9/100"; total is missing for "*".
struct ContentRange {
  uint64_t first = 0, last = 0;
  std::optional<uint64_t> total;
};

bool number(std::string_view& text, uint64_t& value) {
  auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc()) return false;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return true;
}

bool skip(std::string_view& text, std::string_view word) {
  if (!text.starts_with(word)) return false;
  text.remove_prefix(word.size());
  return true;
}

std::optional<ContentRange> parse_content_range(std::string_view text) {
  ContentRange out;
  if (!skip(text, "bytes ") || !number(text, out.first) || !skip(text, "-") || !number(text, out.last) ||
      !skip(text, "/")) {
    return std::nullopt;
  }
  if (text == "*") return out;
  uint64_t total = 0;
  if (!number(text, total) || !text.empty()) return std::nullopt;
  out.total = total;
  return out;
}

// One request and the one or two RangeGets that run for it: the second is the hedge for a first that is slow. Who
// delivers first is the only one that ever delivers, so bytes are never mixed and the end is told once. Thread-safe.
class Race {
 public:
  explicit Race(GetRequest request) : request_(std::move(request)) {}
  const GetRequest& request() const { return request_; }

  // Another runner. False: there is a second one already, or somebody delivers.
  bool join() {
    MutexLock lock(mutex_);
    if (runners_ != 1 || hedged_ || winner_ != nullptr || over_) return false;
    ++runners_;
    return hedged_ = true;
  }
  bool lost(const void* who) const {
    MutexLock lock(mutex_);
    return over_ || (winner_ != nullptr && winner_ != who);
  }
  Status deliver(const void* who, std::span<const std::byte> data) {
    {
      MutexLock lock(mutex_);
      if (over_ || (winner_ != nullptr && winner_ != who)) return make_error(ECANCELED, "the other GET was faster");
      winner_ = who;
    }
    return request_.on_data(data);
  }
  // Success, and errors that are about the object, end the request; after any other error the other one goes on.
  void finished(const void* who, Status status) {
    std::function<void(Status)> done;
    {
      MutexLock lock(mutex_);
      --runners_;
      const bool loser = over_ || (winner_ != nullptr && winner_ != who);
      const bool final_word =
          status.ok() || winner_ == who || status.error().code == ESTALE || status.error().code == ENOENT;
      if (loser || (!final_word && runners_ > 0)) return;
      over_ = true;
      done = std::move(request_.on_done);
      request_.on_data = nullptr;
    }
    done(std::move(status));
  }

 private:
  GetRequest request_;  // its callbacks are called, and dropped, by whoever delivers or ends it
  mutable Mutex mutex_;
  int runners_ GUARDED_BY(mutex_) = 1;
  bool hedged_ GUARDED_BY(mutex_) = false;
  bool over_ GUARDED_BY(mutex_) = false;
  const void* winner_ GUARDED_BY(mutex_) = nullptr;
};

class RangeGet final : public StoreExchange {
 public:
  RangeGet(std::shared_ptr<StoreContext> store, std::shared_ptr<Race> race, std::function<bool()> cancelled)
      : StoreExchange(std::move(store), race->request().demand),
        race_(std::move(race)),
        request_(race_->request()),
        cancelled_(std::move(cancelled)),
        version_(store_->dialect->version(request_.etag)),
        expected_(version_, request_.length > 0 ? request_.mtime_ns : 0),
        whole_(request_.offset == 0 && request_.length == request_.object_size),
        buffered_(request_.length <= kDeliverAtOnce || (whole_ && expects_sum() && request_.length <= kVerifyFirst)) {}

  bool object_get() const override { return true; }
  std::string_view key() const override { return request_.key; }
  uint64_t expected_bytes() const override { return request_.length - received_; }

  void on_slow() override {
    if (store_->engine == nullptr || !race_->join()) return;
    store_->hedges.fetch_add(1, std::memory_order_relaxed);
    store_->engine->submit(std::make_shared<RangeGet>(store_, race_, cancelled_), true);
  }

  bool keeps_body() const override {
    const bool for_md5 = whole_ && store_->options.verify_md5 && !store_->gives_crc.load(std::memory_order_relaxed);
    return buffered_ && (for_md5 || request_.length > kReceivedAtOnce);
  }
  std::span<std::byte> body_room() override {
    if (!buffered_) return {};
    if (!buffer_) buffer_ = store_->buffers.get(request_.length);
    return {buffer_.data() + received_, static_cast<size_t>(request_.length - received_)};
  }
  std::span<const std::byte> md5_input() const override {
    if (!md5_at_end() || received_ < request_.length) return {};
    return {const_cast<BodyBuffers::Buffer&>(buffer_).data(), static_cast<size_t>(request_.length)};
  }
  void md5_is(const Md5& md5) override { md5_ = md5; }

 protected:
  StoreCall call() const override {
    StoreCall call;
    call.key = request_.key;
    if (!expected_.if_match().empty()) call.headers.emplace_back("if-match", "\"" + expected_.if_match() + "\"");
    if (received_ == 0 && whole_) {
      call.tell_checksum = store_->options.verify;
    } else {
      call.headers.emplace_back("range", fmt::format("bytes={}-{}", begin(), request_.offset + request_.length - 1));
    }
    return call;
  }
  std::string object() const override { return store_->dialect->name(request_.key); }
  std::string_view accepted_encoding() const override { return accepts_gzip_ ? "gzip" : "identity"; }
  void count_attempt() override { store_->gets.fetch_add(1, std::memory_order_relaxed); }
  uint64_t progress() const override { return received_; }
  bool has_all() const override { return request_.length > 0 && received_ == request_.length; }
  uint32_t least_rate() const override { return kLeastRate; }
  std::optional<std::chrono::seconds> patience() const override { return std::nullopt; }
  bool cancelled() const override { return race_->lost(this) || (cancelled_ && cancelled_()); }

  Status head(const HttpReply& reply) override {
    if (unpacked(reply)) return ask_packed();
    if (const std::string how = expected_.difference(reply); !how.empty()) return changed(how);
    if (received_ > 0 && !expected_.knows_others()) return start_over();
    // rclone's server says 200 for a range that it sent, with the Content-Range of a 206.
    const bool part = reply.status == 206 || !reply.header("content-range").empty();
    if (auto status = part ? check_range(reply) : check_whole(reply); !status.ok()) return status;
    if (received_ == 0) {
      expected_.keep(reply);
      wanted_ = whole_ ? wanted_checksum(reply) : BodyChecksum{};
      check_ = BodyCheck(md5_at_end() ? BodyChecksum{} : wanted_);
    }
    if (request_.etag_is_no_sum && (wanted_.crc || !store_->dialect->etag_is_sum(reply)))
      request_.etag_is_no_sum->store(true);
    return {};
  }

  Status body(std::span<const std::byte> data) override {
    if (data.size() > request_.length - received_) {
      if (buffered_) received_ = 0;  // which of them are right?
      accepts_gzip_ = !accepts_gzip_;
      return again(object() + ": more bytes than announced");
    }
    if (buffered_ && (md5_at_end() || data.size() < request_.length)) {
      memcpy(body_room().data(), data.data(), data.size());
      return placed(data.size());
    }
    check_.update(data);
    received_ += data.size();
    if (buffered_ && !check_.matches()) return wrong_checksum();  // all of it at once
    delivered_ = true;
    return race_->deliver(this, data);
  }

  Status placed(size_t bytes) override {
    check_.update({buffer_.data() + received_, bytes});
    received_ += bytes;
    return {};
  }

  Status complete() override {
    if (received_ < request_.length) return again(fmt::format("{}: body cut short at byte {}", object(), begin()));
    if (delivered_ && buffered_) return {};
    if (!matches()) return wrong_checksum();
    if (buffered_ && request_.length > 0)
      return race_->deliver(this, {buffer_.data(), static_cast<size_t>(request_.length)});
    return {};
  }

  void finish(Status status) override {
    buffer_ = {};
    race_->finished(this, std::move(status));
  }

 private:
  uint64_t begin() const { return request_.offset + received_; }

  // What is kept whole is hashed when it is whole: with others at once, if the transport does that.
  bool md5_at_end() const { return buffered_ && wanted_.md5 && !wanted_.crc; }
  bool expects_sum() const {
    return store_->options.verify_md5 || (store_->options.verify && store_->gives_crc.load(std::memory_order_relaxed));
  }

  bool matches() {
    if (!md5_at_end()) return check_.matches();
    if (!md5_) {
      Md5Stream stream;
      stream.update(md5_input());
      md5_ = stream.finish();
    }
    return *md5_ == *wanted_.md5;
  }

  Error changed(std::string_view how) const {
    return make_error(ESTALE, fmt::format("{}: changed since it was listed: {}", object(), how));
  }

  // A size that is not the listed one is another object, unless the etag says it is the same: then the header is wrong.
  Error wrong_size(std::string_view has, const HttpReply& reply) {
    const bool same = !version_.if_match.empty() && clean_etag(reply.header("etag")) == version_.if_match;
    std::string how = fmt::format("it has {} bytes, not {}", printable(has, 40), request_.object_size);
    if (!same) return changed(how);
    accepts_gzip_ = !accepts_gzip_;  // the bytes may have been sent in another form
    return again(object() + ": bad length in a reply: " + how);
  }

  Status check_range(const HttpReply& reply) {
    const auto range = parse_content_range(reply.header("content-range"));
    if (!range) return again(object() + ": 206 without a Content-Range");
    if (range->total && *range->total != request_.object_size) return wrong_size(std::to_string(*range->total), reply);
    if (range->first != begin() || range->last != request_.offset + request_.length - 1) {
      return again(fmt::format("{}: asked for bytes {}-{}, got {}-{}", object(), begin(),
                               request_.offset + request_.length - 1, range->first, range->last));
    }
    return {};
  }

  Status check_whole(const HttpReply& reply) {
    if (received_ > 0 || !whole_) return again(object() + ": the store ignored the Range of a request");
    const std::string_view length = reply.header("content-length");
    if (!length.empty() && length != std::to_string(request_.object_size)) return wrong_size(length, reply);
    return {};
  }

  BodyChecksum wanted_checksum(const HttpReply& reply) const {
    if (request_.length == 0 || !store_->options.verify) return {};  // of no bytes none can be wrong
    BodyChecksum wanted = version_.sum.known() ? version_.sum : store_->dialect->checksum(reply);
    if (store_->gives_crc.load(std::memory_order_relaxed) != wanted.crc.has_value())
      store_->gives_crc.store(wanted.crc.has_value());
    if (!store_->options.verify_md5) wanted.md5.reset();
    return wanted;
  }

  // Google's store unpacks what is stored with Content-Encoding: gzip for clients that do not accept gzip, and says so.
  static bool unpacked(const HttpReply& reply) {
    return reply.header("warning").starts_with("214") ||
           (reply.header("x-goog-stored-content-encoding") == "gzip" && reply.header("content-encoding") != "gzip");
  }
  // The stored bytes are those that were listed.
  Error ask_packed() {
    if (accepts_gzip_)
      return make_error(EIO, object() + ": it is stored packed (Content-Encoding: gzip), and the store unpacks it");
    accepts_gzip_ = true;
    store_->unpacks.store(true);
    return again(object() + ": the store sent it unpacked");
  }

  // Neither an ETag nor a date tells whether the rest of a body that was cut is of the same version.
  Error start_over() {
    const std::string message = object() + ": cut short, and the store tells nothing by which to go on";
    if (!buffered_) return make_error(kWrongBytes, message);
    received_ = 0;
    return again(message);
  }

  // Nothing was delivered yet: fetch it again from the start. Otherwise the receiver has wrong bytes and must be told.
  Status wrong_checksum() {
    std::string message = object() + ": the bytes do not match the store's checksum";
    if (!buffered_) return make_error(kWrongBytes, message);
    received_ = 0;
    md5_.reset();
    return again(message);
  }

  const std::shared_ptr<Race> race_;
  const GetRequest& request_;  // the race's; its callbacks are the race's business
  const std::function<bool()> cancelled_;
  const ObjectVersion version_;
  ExpectedVersion expected_;
  bool accepts_gzip_ = store_->unpacks.load();
  const bool whole_;
  const bool buffered_;
  uint64_t received_ = 0;
  BodyBuffers::Buffer buffer_;
  bool delivered_ = false;  // anything, straight from the transport
  BodyChecksum wanted_;
  BodyCheck check_;
  std::optional<Md5> md5_;
};

}  // namespace

std::shared_ptr<HttpAttempt> make_range_get(std::shared_ptr<StoreContext> store, GetRequest request,
                                            std::function<bool()> cancelled) {
  return std::make_shared<RangeGet>(std::move(store), std::make_shared<Race>(std::move(request)), std::move(cancelled));
}

}  // namespace larder
