#include "cached/store/compared_get.h"

#include <zlib.h>

#include <atomic>
#include <memory>

#include "cached/store/etag_check.h"
#include "cached/store/parallel_get.h"

namespace larder {
namespace {

class Crc32Check {
 public:
  explicit Crc32Check(std::string wanted) : wanted_(std::move(wanted)) {}
  void update(std::span<const std::byte> bytes) { crc_ = crc32_z(crc_, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()); }
  bool matches() const {
    uLong wanted = 0;
    for (const char c : wanted_) wanted = wanted << 8 | static_cast<unsigned char>(c);
    return crc_ == wanted;
  }

 private:
  const std::string wanted_;
  uLong crc_ = crc32(0, nullptr, 0);
};

// `Check` has update(bytes) and matches(). `code`: of a GET whose bytes do not match.
template <typename Check>
GetRequest with(Check check, int code, std::string name, GetRequest request) {
  struct State {
    Check check;
    int code;
    std::string name;
    std::shared_ptr<std::atomic<bool>> no_sum;
    std::function<Status(std::span<const std::byte>)> on_data;
    std::function<void(Status)> on_done;
  };
  request.etag_is_no_sum = std::make_shared<std::atomic<bool>>(false);
  auto state = std::make_shared<State>(
      State{std::move(check), code, std::move(name), request.etag_is_no_sum, std::move(request.on_data), std::move(request.on_done)});
  request.on_data = [state](std::span<const std::byte> bytes) {
    state->check.update(bytes);
    return state->on_data(bytes);
  };
  request.on_done = [state](Status status) {
    if (status.ok() && !state->no_sum->load() && !state->check.matches())
      status = make_error(state->code, state->name + ": the bytes do not match the store's checksum");
    state->on_done(std::move(status));
  };
  return request;
}

}  // namespace

GetRequest compared(const StoreContext& store, GetRequest request) {
  const bool whole = request.offset == 0 && request.length == request.object_size && request.length > 0;
  if (!whole || !store.options.verify_md5) return request;
  if (request.length <= kParallelAbove && request.etag.find('-') == std::string::npos) return request;  // RangeGet compares it
  const bool parallel = wants_parallel(store, request);
  const BodyChecksum sum = store.dialect->version(request.etag).sum;
  std::string name = store.dialect->name(request.key);
  if (sum.kind == BodyChecksum::Kind::kCrc32 && parallel) return with(Crc32Check(sum.value), kWrongBytes, std::move(name), std::move(request));
  std::string etag = store.dialect->etags_are_sums() ? request.etag : std::string();
  if (sum.kind == BodyChecksum::Kind::kMd5) etag = hex(std::span(reinterpret_cast<const unsigned char*>(sum.value.data()), sum.value.size()));
  if (is_md5_etag(etag) && !parallel) return request;
  EtagCheck check(etag, request.object_size);
  const int code = is_md5_etag(etag) ? kWrongBytes : kDoubtfulBytes;
  return check.tells() ? with(std::move(check), code, std::move(name), std::move(request)) : request;
}

}  // namespace larder
