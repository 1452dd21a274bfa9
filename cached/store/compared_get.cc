#include "cached/store/compared_get.h"

#include <atomic>
#include <memory>

#include "cached/store/body_check.h"
#include "cached/store/etag_check.h"
#include "cached/store/parallel_get.h"

namespace larder {
namespace {

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
  const Dialect& dialect = *store.dialect;
  BodyChecksum sum = dialect.version(request.etag).sum;
  const auto md5 = dialect.etags_are_sums() ? md5_of_etag(request.etag) : std::nullopt;
  if (md5) sum = {BodyChecksum::Kind::kMd5, std::string(md5->begin(), md5->end())};
  if (sum.kind != BodyChecksum::Kind::kNone) {
    if (!parallel) return request;
    return with(BodyCheck(std::move(sum)), kWrongBytes, dialect.name(request.key), std::move(request));
  }
  EtagCheck check(dialect.etags_are_sums() ? request.etag : "", request.object_size);
  if (!check.tells()) return request;
  return with(std::move(check), kDoubtfulBytes, dialect.name(request.key), std::move(request));
}

}  // namespace larder
