#include "cached/store/http/compared_get.h"

#include <atomic>
#include <memory>
#include <optional>

#include "cached/base/mutex.h"
#include "cached/store/checksum/etag_check.h"
#include "cached/store/http/body_check.h"
#include "cached/store/http/parallel_get.h"
#include "cached/store/http/unary_request.h"

namespace larder {
namespace {

// One GET. Bytes come in order, on one thread at a time; the answer to the HEAD whenever it comes.
class Comparison : public std::enable_shared_from_this<Comparison> {
 public:
  Comparison(std::string name, EtagCheck by_etag) : name_(std::move(name)), by_etag_(std::move(by_etag)) {}

  GetRequest watch(GetRequest request) {
    on_data_ = std::move(request.on_data);
    on_done_ = std::move(request.on_done);
    if (!request.etag_is_no_sum) request.etag_is_no_sum = std::make_shared<std::atomic<bool>>(false);
    no_sum_ = request.etag_is_no_sum;
    request.on_data = [self = shared_from_this()](std::span<const std::byte> bytes) {
      self->update(bytes);
      return self->on_data_(bytes);
    };
    request.on_done = [self = shared_from_this()](Status status) { self->done(std::move(status)); };
    return request;
  }

  // A sum that was known before the first byte.
  void compare_with(const BodyChecksum& sum) { known_.emplace(sum); }

  // The CRC comes from a HEAD of this version; until it is there all of them are computed.
  void ask_crc(const std::shared_ptr<StoreContext>& store, const std::string& key, const std::string& if_match) {
    for (CrcKind kind : {CrcKind::kCrc64Nvme, CrcKind::kCrc32c, CrcKind::kCrc32})
      crcs_.push_back({kind, 0});
    {
      MutexLock lock(mutex_);
      answer_awaited_ = true;
    }
    larder::ask_crc(store, key, if_match,
                    [self = shared_from_this()](std::optional<CrcSum> crc) { self->answered(crc); });
  }

 private:
  void update(std::span<const std::byte> bytes) {
    bool awaited = false;
    std::optional<CrcSum> crc;
    {
      MutexLock lock(mutex_);
      awaited = answer_awaited_;
      crc = crc_;
    }
    if (known_) known_->update(bytes);
    for (auto& one : crcs_) {
      if (awaited || (crc && crc->kind == one.kind)) one.value = crc_update(one.kind, one.value, bytes);
    }
    if (!known_ && !crc && !no_sum_->load(std::memory_order_relaxed)) by_etag_.update(bytes);
  }

  void answered(std::optional<CrcSum> crc) {
    {
      MutexLock lock(mutex_);
      if (!std::exchange(answer_awaited_, false)) return;  // the GET failed meanwhile
      crc_ = crc;
      if (!has_all_) return;
    }
    end({}, crc);
  }

  void done(Status status) {
    std::optional<CrcSum> crc;
    {
      MutexLock lock(mutex_);
      has_all_ = status.ok();
      if (has_all_ && answer_awaited_) return;
      answer_awaited_ = false;
      crc = crc_;
    }
    end(std::move(status), crc);
  }

  // `crc`: the answer to the HEAD.
  void end(Status status, const std::optional<CrcSum>& crc) {
    if (status.ok()) {
      if (int code = differs(crc); code != 0)
        status = make_error(code, name_ + ": the bytes do not match the store's checksum");
    }
    auto on_done = std::move(on_done_);
    on_data_ = nullptr;
    on_done(std::move(status));
  }

  // The code of the error; 0: the bytes are right, or nothing tells.
  int differs(const std::optional<CrcSum>& crc) {
    if (crc) {
      for (auto& one : crcs_) {
        if (one.kind == crc->kind) return one.value == crc->value ? 0 : kWrongBytes;
      }
    }
    if (known_) return known_->matches() ? 0 : kWrongBytes;
    if (!by_etag_.tells() || no_sum_->load()) return 0;
    return by_etag_.matches() ? 0 : by_etag_.sure() ? kWrongBytes : kDoubtfulBytes;
  }

  const std::string name_;
  std::function<Status(std::span<const std::byte>)> on_data_;
  std::function<void(Status)> on_done_;
  std::shared_ptr<std::atomic<bool>> no_sum_;
  std::optional<BodyCheck> known_;
  EtagCheck by_etag_;
  std::vector<CrcSum> crcs_;

  Mutex mutex_;
  bool answer_awaited_ GUARDED_BY(mutex_) = false;
  std::optional<CrcSum> crc_ GUARDED_BY(mutex_);  // the answer
  bool has_all_ GUARDED_BY(mutex_) = false;       // the GET succeeded
};

}  // namespace

GetRequest compared(const std::shared_ptr<StoreContext>& store, GetRequest request) {
  const bool whole = request.offset == 0 && request.length == request.object_size && request.length > 0;
  if (!whole || !store->options.verify) return request;
  const bool parallel = wants_parallel(*store, request);
  if (!parallel && request.etag.find('-') == std::string::npos) return request;  // RangeGet compares it
  const StoreProtocol& dialect = *store->dialect;
  const ObjectVersion version = dialect.version(request.etag);
  if (!parallel && version.sum.known()) return request;
  const bool by_etag = store->options.verify_md5 && dialect.etags_are_sums() && !version.sum.known();
  EtagCheck check(by_etag ? request.etag : "", request.object_size);
  const bool asks = parallel && !version.sum.known() && dialect.head_tells_checksum();
  if (!asks && !check.tells() && !version.sum.known()) return request;
  auto comparison = std::make_shared<Comparison>(dialect.name(request.key), std::move(check));
  if (version.sum.known()) comparison->compare_with(version.sum);
  if (asks) comparison->ask_crc(store, request.key, version.if_match);
  return comparison->watch(std::move(request));
}

}  // namespace larder
