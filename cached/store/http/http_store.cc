#include "cached/store/http/http_store.h"

#include <fmt/format.h>

#include <charconv>
#include <cstdlib>

#include "cached/base/text.h"
#include "cached/store/api/list_order.h"
#include "cached/store/api/options.h"
#include "cached/store/http/compared_get.h"
#include "cached/store/http/http_writer.h"
#include "cached/store/http/parallel_get.h"
#include "cached/store/http/parallel_list.h"
#include "cached/store/http/range_get.h"
#include "cached/store/http/unary_request.h"

namespace larder {
namespace {

using Clock = std::chrono::steady_clock;
using Transport = HttpReply::Transport;

// 63 for fill, and an eighth kept for demand: background work alone gets what 64 bare connections get.
constexpr int kConnections = 72;
constexpr std::chrono::seconds kDemandPatience{60};
constexpr std::chrono::seconds kFillPatience{300};
constexpr int kMaxRepairs = 3;
constexpr uint64_t kBytesPerAttempt = 64 * 1024;
// What a list may have before it is worth to begin again, many folders at once: these pages are asked for twice then.
constexpr int kPagesInARow = 3;

// libcurl follows these; the plain transport does not.
bool proxy_in_environment() {
  for (const char* name : {"http_proxy", "all_proxy", "ALL_PROXY"}) {
    const char* value = std::getenv(name);
    if (value != nullptr && *value != '\0') return true;
  }
  return false;
}

}  // namespace

Result<HttpStoreOptions> http_store_options(const StoreOptions& options, bool https) {
  HttpStoreOptions out;
  auto connections = int_option(options, "max_connections", kConnections, 1, 1024);
  auto connect = int_option(options, "connect_timeout_ms", 5'000, 100, 600'000);
  auto stall = int_option(options, "stall_timeout_ms", 20'000, 100, 600'000);
  auto retries = int_option(options, "retries", out.retries, 0, 100);
  auto speed = int_option(options, "max_transfer_speed", 0, 1, int64_t{1} << 40);
  auto hedge = int_option(options, "hedge_after_ms", out.engine.slow_after_ms, 1, 600'000);
  auto bandwidth = size_option(options, "max_bandwidth", 0);
  auto rate = int_option(options, "max_requests_per_second", 0, 1, 1'000'000);
  auto max_copy = size_option(options, "max_copy", static_cast<int64_t>(out.max_copy));
  for (auto* number : {&connections, &connect, &stall, &retries, &hedge, &bandwidth, &rate, &speed, &max_copy}) {
    if (!number->ok()) return number->error();
  }
  auto verify = choice_option(options, "verify", {"auto", "always", "never"});
  auto order = choice_option(options, "list_order", {"auto", "any"});
  auto parallel = bool_option(options, "parallel_lists", true);
  if (!parallel.ok()) return parallel.error();
  if (!verify.ok()) return verify.error();
  if (!order.ok()) return order.error();
  out.engine.max_connections = static_cast<int>(*connections);
  out.engine.connect_timeout_ms = static_cast<int>(*connect);
  out.engine.stall_timeout_ms = static_cast<int>(*stall);
  out.engine.slow_after_ms = static_cast<int>(*hedge);
  out.engine.max_bandwidth = static_cast<double>(*bandwidth);
  out.engine.max_requests_per_second = static_cast<double>(*rate);
  out.engine.plain = !https && !proxy_in_environment();
  out.retries = static_cast<int>(*retries);
  out.verify = *verify != "never";
  out.verify_md5 = *verify == "always" || (*verify == "auto" && !https);
  out.content_md5 = out.verify_md5;
  out.engine.max_transfer_speed = *speed;
  out.max_copy = static_cast<uint64_t>(*max_copy);
  auto exclude = exclude_filter(option(options, "exclude"));
  if (!exclude.ok()) return make_error(EINVAL, "store option exclude: " + exclude.error().message);
  out.exclude = std::move(*exclude);
  out.any_order = *order == "any";
  out.parallel_lists = *parallel;
  return out;
}

StoreExchange::StoreExchange(std::shared_ptr<StoreContext> store, bool demand)
    : store_(std::move(store)), demand_(demand), last_progress_(Clock::now()) {}

Error StoreExchange::again(std::string message) {
  curable_ = true;
  return make_error(EIO, std::move(message));
}

Result<HttpRequest> StoreExchange::prepare() {
  if (cancelled()) return nobody_waits();
  if (attempts_ == 0) last_progress_ = Clock::now();  // time in the queue is not the store's
  const StoreCall next = call();
  auto request = store_->dialect->sign(next);
  if (!request.ok()) {
    if (request.error().code != EAGAIN) return request;
    if (!keys_awaited_since_) keys_awaited_since_ = Clock::now();
    if (Clock::now() - *keys_awaited_since_ < kDemandPatience) return request;
    return make_error(EACCES, object() + ": " + request.error().message);
  }
  keys_awaited_since_.reset();
  signer_ = request->signer;
  request->body = next.body;
  // Without it libcurl asks first, above 1 MiB, and waits a second where nobody answers.
  if (!next.body.empty()) request->headers.append("Expect:\r\n");
  // Not signed: Google's front end changes it. Without it a server may send another form of the bytes than the listed.
  request->headers.append("Accept-Encoding: ").append(accepted_encoding()).append("\r\n");
  request->patience = next.patience;
  if (store_->options.engine.max_transfer_speed == 0) request->least_rate = least_rate();
  ++attempts_;
  count_attempt();
  if (attempts_ > 1) store_->retries.fetch_add(1, std::memory_order_relaxed);
  curable_ = false;
  stopped_ = {};
  return request;
}

Status StoreExchange::on_head(const HttpReply& reply) {
  stopped_ = head(reply);
  return stopped_;
}

Status StoreExchange::on_body(std::span<const std::byte> data) {
  store_->bytes.fetch_add(data.size(), std::memory_order_relaxed);
  stopped_ = cancelled() ? Status(nobody_waits()) : body(data);
  return stopped_;
}

Status StoreExchange::on_placed(size_t bytes) {
  store_->bytes.fetch_add(bytes, std::memory_order_relaxed);
  stopped_ = cancelled() ? Status(nobody_waits()) : placed(bytes);
  return stopped_;
}

Error StoreExchange::nobody_waits() const {
  return make_error(ECANCELED, object() + ": nobody waits for it any more");
}

Verdict StoreExchange::on_end(const HttpReply& reply) {
  if (progress() > progress_seen_) {
    fruitless_ -= static_cast<int>(std::min<uint64_t>((progress() - progress_seen_) / kBytesPerAttempt, 1 << 20));
    fruitless_ = std::max(fruitless_, 0);
    progress_seen_ = progress();
    last_progress_ = Clock::now();
  }
  const bool spoilt = reply.transport != Transport::kOk && (reply.transport != Transport::kStopped || curable_);
  if (spoilt && has_all()) {  // its end was wrong: nothing is left to ask for
    curable_ = false;
    return conclude();
  }
  if (reply.transport == Transport::kStopped) {
    if (curable_) return retry(stopped_.error(), false, store_->options.retries);
    end_with(stopped_.error());
    return {};
  }
  if (reply.transport != Transport::kOk) return broken(reply);
  if (!reply.success()) return refused(reply);
  return conclude();
}

Verdict StoreExchange::conclude() {
  const Status status = complete();
  if (!status.ok() && curable_) return retry(status.error(), false, store_->options.retries);
  if (status.ok()) {
    finish({});
  } else {
    end_with(status.error());
  }
  return {};
}

Verdict StoreExchange::broken(const HttpReply& reply) {
  const bool connect = reply.transport == Transport::kConnect;
  const char* what = connect                                  ? "cannot connect to"
                     : reply.transport == Transport::kTimeout ? "no answer from"
                                                              : "broken reply of";
  Error error = make_error(EIO, fmt::format("{}: {} {}: {}", printable(object(), 1200), what,
                                            store_->dialect->endpoint(), printable(reply.transport_error)));
  return retry(error, reply.transport != Transport::kBroken, connect ? connect_retries() : store_->options.retries);
}

Verdict StoreExchange::refused(const HttpReply& reply) {
  const ServiceError said = store_->dialect->service_error(reply);
  if (repairs_ < kMaxRepairs && store_->dialect->repair(reply, said, signer_.get())) {
    ++repairs_;
    return {true, std::chrono::milliseconds(0)};
  }
  std::string message = describe(object(), reply.status, said);
  const std::string hint = store_->dialect->hint(reply.status, said);
  if (!hint.empty()) message += "; " + hint;
  const Error error = make_error(errno_of(reply.status, said.code), message);
  if (worth_retrying(reply.status, said.code)) {
    const bool throttled = reply.status == 503 || reply.status == 429 || said.code == "SlowDown";
    return retry(error, throttled, store_->options.retries);
  }
  end_with(error);
  return {};
}

std::optional<std::chrono::seconds> StoreExchange::patience() const {
  return demand_ ? kDemandPatience : kFillPatience;
}

Verdict StoreExchange::retry(const Error& error, bool throttled, int allowed) {
  const auto most = patience();
  ++fruitless_;
  if (cancelled()) {
    end_with(nobody_waits());
    return {};
  }
  if (fruitless_ > allowed || (most && Clock::now() - last_progress_ > *most)) {
    end_with(make_error(
        error.code, attempts_ > 1 ? fmt::format("{} (after {} attempts)", error.message, attempts_) : error.message));
    return {};
  }
  return {true, backoff(fruitless_, throttled)};
}

void StoreExchange::end_with(Error error) {
  if (error.code != ECANCELED) store_->errors.fetch_add(1, std::memory_order_relaxed);
  finish(std::move(error));
}

void StoreExchange::abandoned(const Error& error) {
  end_with(error);
}

HttpStore::HttpStore(std::unique_ptr<StoreProtocol> dialect, HttpStoreOptions options)
    : context_(std::make_shared<StoreContext>()) {
  context_->dialect = std::move(dialect);
  context_->options = options;
  context_->gives_crc = context_->dialect->gives_crcs();
  engine_ = std::make_unique<HttpEngine>(options.engine);
  if (context_->dialect->writing() != nullptr) writer_ = std::make_unique<HttpWriter>(context_, *engine_);
  context_->engine = engine_.get();
}

HttpStore::~HttpStore() = default;

Result<ListPage> HttpStore::list_page(StoreCall call) {
  auto answer = ask(context_, std::move(call));
  if (!answer.ok()) return answer.error();
  auto page = context_->dialect->parse_list(answer->body);
  if (!page.ok()) return make_error(EIO, context_->dialect->name("") + ": " + page.error().message);
  return page;
}

Status HttpStore::list(const std::function<Status(std::vector<ObjectInfo>&&)>& page) {
  const Filter& exclude = context_->options.exclude;
  const auto kept = [&](std::vector<ObjectInfo>&& objects) -> Status {
    std::erase_if(objects, [&](auto& object) { return !exclude.includes(object.key); });
    return objects.empty() ? Status() : page(std::move(objects));
  };
  ListOrder order(context_->dialect->name(""), context_->dialect->prefix(), context_->options.any_order,
                  exclude.empty() ? page : kept);
  std::string next;
  const bool in_parallel = context_->options.parallel_lists && context_->dialect->lists_folders();
  int pages = 0;
  std::vector<ObjectInfo> held;  // of the first pages
  do {
    if (pages++ == kPagesInARow && in_parallel) return list_in_parallel(order);
    auto one = list_page(context_->dialect->list_call(next));
    if (!one.ok()) return one.error();
    if (!one->next.empty() && one->next == next) {
      return make_error(EIO, context_->dialect->name("") + ": the store's list does not advance");
    }
    next = std::move(one->next);
    std::move(one->objects.begin(), one->objects.end(), std::back_inserter(held));
    if (in_parallel && !next.empty()) continue;
    if (auto status = order.add(std::exchange(held, {})); !status.ok()) return status;
  } while (!next.empty());
  return order.end();
}

// Every object passes the same checks of order and prefix as in a list in one row.
Status HttpStore::list_in_parallel(ListOrder& order) {
  ParallelList list(
      context_->dialect->prefix(),
      [this](const std::string& folder, bool split, const std::string& next) {
        return list_page(context_->dialect->folder_call(folder, split, next));
      },
      [this](const std::string& folder, const std::string& after) -> Result<std::string> {
        auto page = list_page(context_->dialect->first_after_call(folder, after));
        if (!page.ok()) return page.error();
        if (page->objects.empty()) return std::string();
        return page->objects.front().key > after
                   ? page->objects.front().key
                   : Result<std::string>(make_error(EIO, "the store does not know start-after"));
      },
      [&](std::vector<ObjectInfo>&& objects) { return order.add(std::move(objects)); });
  if (auto status = list.run(); !status.ok()) return make_error(status.error().code, status.error().message);
  return order.end();
}

Result<ObjectInfo> HttpStore::head(std::string_view key) {
  StoreCall call;
  call.method = "HEAD";
  call.key = key;
  auto answer = ask(context_, std::move(call));
  if (!answer.ok()) return answer.error();
  ObjectInfo info;
  info.key = key;
  info.etag = context_->dialect->etag(answer->head);
  info.mtime_ns = http_date_ns(answer->head.header("last-modified"));
  const std::string_view length = answer->head.header("content-length");
  auto [end, failure] = std::from_chars(length.data(), length.data() + length.size(), info.size);
  if (failure != std::errc() || end != length.data() + length.size()) {
    return make_error(EIO, context_->dialect->name(key) + ": HEAD gave no length");
  }
  return info;
}

void HttpStore::crc_of(const ObjectInfo& object, std::function<void(std::optional<CrcSum>)> done) {
  const std::string if_match = context_->dialect->version(object.etag).if_match;
  if (!context_->options.verify || if_match.empty() || !context_->dialect->head_tells_checksum())
    return done(std::nullopt);
  ask_crc(context_, object.key, if_match, std::move(done));
}

void HttpStore::get(GetRequest request) {
  request = compared(context_, std::move(request));
  if (wants_parallel(*context_, request)) return start_parallel_get(context_, *engine_, std::move(request));
  const bool demand = request.demand;
  engine_->submit(make_range_get(context_, std::move(request)), demand);
}

StoreCounters HttpStore::counters() const {
  StoreCounters out;
  out.gets = context_->gets.load(std::memory_order_relaxed);
  out.lists = context_->lists.load(std::memory_order_relaxed);
  out.retries = context_->retries.load(std::memory_order_relaxed);
  out.bytes = context_->bytes.load(std::memory_order_relaxed);
  out.errors = context_->errors.load(std::memory_order_relaxed);
  out.hedges = context_->hedges.load(std::memory_order_relaxed);
  out.limit = static_cast<uint64_t>(engine_->concurrency_limit());
  out.in_flight = engine_->in_flight();
  out.queued = engine_->queued();
  return out;
}

}  // namespace larder
