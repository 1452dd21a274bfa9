#include "cached/store/http_engine.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <map>
#include <unordered_map>

namespace larder {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxErrorBody = 64 * 1024;
constexpr size_t kMaxHeaderBytes = 64 * 1024;  // of a reply: more is no object store
// libcurl hands over what one recv() brought in pieces of 16 KiB. 8 MiB took 5.3 ms of CPU with 16 KiB of buffer, 2.45
// with 128 KiB, 2.43 with 512 KiB.
constexpr long kReceiveBuffer = 256 * 1024;
constexpr std::chrono::milliseconds kStallCheck{250};
constexpr std::chrono::milliseconds kCredentialsWait{50};

struct FreeEasy {
  void operator()(CURL* p) const { curl_easy_cleanup(p); }
};
struct FreeMulti {
  void operator()(CURLM* p) const { curl_multi_cleanup(p); }
};
struct FreeList {
  void operator()(curl_slist* p) const { curl_slist_free_all(p); }
};
using Easy = std::unique_ptr<CURL, FreeEasy>;
using Multi = std::unique_ptr<CURLM, FreeMulti>;
using HeaderList = std::unique_ptr<curl_slist, FreeList>;

void init_curl_once() {
  static const CURLcode done = curl_global_init(CURL_GLOBAL_DEFAULT);
  (void)done;
}

HeaderList header_list(const std::vector<std::string>& lines) {
  HeaderList list;
  for (auto& line : lines) {
    curl_slist* longer = curl_slist_append(list.get(), line.c_str());
    if (longer == nullptr) break;
    (void)list.release();
    list.reset(longer);
  }
  return list;
}

HttpReply::Transport transport_of(CURLcode code) {
  switch (code) {
    case CURLE_OK:
      return HttpReply::Transport::kOk;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
      return HttpReply::Transport::kConnect;
    case CURLE_OPERATION_TIMEDOUT:
      return HttpReply::Transport::kTimeout;
    default:
      return HttpReply::Transport::kBroken;
  }
}

Error closed() { return make_error(EIO, "the store is being closed"); }

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return out;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.back() == '\r' || text.back() == '\n' || text.back() == ' ' || text.back() == '\t'))
    text.remove_suffix(1);
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  return text;
}

}  // namespace

std::string_view HttpReply::header(std::string_view name) const {
  for (auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return {};
}

// One thread and its multi handle: connections, DNS cache and easy handles are its own (sharing them between threads is
// a documented libcurl bug).
class HttpEngine::Worker final : public Carrier {
 public:
  explicit Worker(HttpEngine& engine) : Carrier(engine), multi_(curl_multi_init()) {
    // Default: 4 x the handles added so far, which drops warm connections in a lull.
    curl_multi_setopt(multi_.get(), CURLMOPT_MAXCONNECTS, static_cast<long>(engine.options_.max_connections + 8));
  }

 private:
  // One attempt under way.
  struct Transfer {
    Easy easy;
    Job job;
    HttpReply reply;
    HttpRequest request;
    HeaderList headers;
    char error[CURL_ERROR_SIZE] = {};
    size_t header_bytes = 0;
    curl_off_t sent = 0;
    bool head_told = false;
    bool stopped = false;
    bool slow_told = false;
    Clock::time_point started, last_activity;
    std::chrono::microseconds first_byte{0};
  };
  using Active = std::unordered_map<CURL*, std::unique_ptr<Transfer>>;

  void interrupt() override { curl_multi_wakeup(multi_.get()); }

  void run() override {
    while (!stopping()) {
      start_ready();
      int running = 0;
      curl_multi_perform(multi_.get(), &running);
      reap();
      drop_stalled();
      if (start_ready()) continue;
      const auto now = Clock::now();
      before_wait(now);
      const auto most = active_.empty() ? std::chrono::milliseconds(1000) : kStallCheck;
      curl_multi_poll(multi_.get(), nullptr, 0, static_cast<int>(may_wait(now, most).count()), nullptr);
      after_wait(Clock::now());
    }
    abandon_all();
  }

  // True if at least one transfer was started.
  bool start_ready() {
    bool any = false;
    Job job;
    while (!stopping() && next_job(false, job)) {
      start(std::move(job));
      any = true;
    }
    return any;
  }

  void start(Job job) {
    auto request = job.exchange->prepare();
    if (!request.ok()) {
      engine_.release(job, Concurrency::Outcome::kOther, {});
      if (request.error().code == EAGAIN) {
        wait_with(std::move(job), kCredentialsWait);
      } else {
        job.exchange->abandoned(request.error());
      }
      return;
    }
    auto transfer = std::make_unique<Transfer>();
    transfer->easy = handle();
    transfer->job = std::move(job);
    transfer->request = std::move(*request);
    transfer->started = transfer->last_activity = Clock::now();
    if (!transfer->easy || !set_up(*transfer) ||
        curl_multi_add_handle(multi_.get(), transfer->easy.get()) != CURLM_OK) {
      engine_.release(transfer->job, Concurrency::Outcome::kOther, {});
      transfer->job.exchange->abandoned(make_error(ENOMEM, "libcurl could not start a transfer"));
      return;
    }
    CURL* key = transfer->easy.get();
    active_.emplace(key, std::move(transfer));
  }

  // A pooled handle, or a new one with everything set that is the same for all requests.
  Easy handle() {
    if (!pool_.empty()) {
      Easy easy = std::move(pool_.back());
      pool_.pop_back();
      return easy;
    }
    Easy easy(curl_easy_init());
    if (easy) set_always(easy.get());
    return easy;
  }

  void set_always(CURL* easy) {
    const EngineOptions& o = engine_.options_;
    // The default (2TLS) may squeeze all transfers into one connection.
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);  // "/./" and "/../" are legal in keys
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);  // the signature covers the host
    curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 1L);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, kReceiveBuffer);
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, 30L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, 15L);
    curl_easy_setopt(easy, CURLOPT_DNS_SHUFFLE_ADDRESSES, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(o.connect_timeout_ms));
    // The engine watches for stalls itself, in milliseconds (drop_stalled); this is the net below it.
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    if (o.max_transfer_speed > 0) {
      curl_easy_setopt(easy, CURLOPT_MAX_RECV_SPEED_LARGE, static_cast<curl_off_t>(o.max_transfer_speed));
      curl_easy_setopt(easy, CURLOPT_MAX_SEND_SPEED_LARGE, static_cast<curl_off_t>(o.max_transfer_speed));
    }
    if (!o.ca_file.empty()) curl_easy_setopt(easy, CURLOPT_CAINFO, o.ca_file.c_str());
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &Worker::on_header);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &Worker::on_write);
    curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, &Worker::on_progress);
  }

  std::chrono::milliseconds patience(const Transfer& t) const {
    if (t.request.patience.count() > 0) return t.request.patience;
    return std::chrono::milliseconds(std::max(engine_.options_.stall_timeout_ms, engine_.options_.connect_timeout_ms));
  }

  bool set_up(Transfer& t) const {
    CURL* easy = t.easy.get();
    t.headers = header_list(t.request.headers);
    bool ok = curl_easy_setopt(easy, CURLOPT_URL, t.request.url.c_str()) == CURLE_OK;
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, t.headers.get());
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, t.error);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, &t);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &t);
    curl_easy_setopt(easy, CURLOPT_XFERINFODATA, &t);
    curl_easy_setopt(easy, CURLOPT_NOPROGRESS, t.request.body.empty() ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, static_cast<long>(patience(t).count() / 1000 + 10));
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, nullptr);
    curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);  // takes NOBODY and POST back
    if (t.request.method == "HEAD") {
      curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    } else if (t.request.method != "GET") {
      curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(t.request.body.size()));
      curl_easy_setopt(easy, CURLOPT_POSTFIELDS, t.request.body.empty() ? "" : t.request.body.data());
      curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, t.request.method.c_str());
    }
    return ok;
  }

  static size_t on_header(char* data, size_t size, size_t count, void* self) {
    auto& t = *static_cast<Transfer*>(self);
    const size_t bytes = size * count;
    t.last_activity = Clock::now();
    t.header_bytes += bytes;
    if (t.header_bytes > kMaxHeaderBytes) return 0;
    std::string_view line = trim({data, bytes});
    if (line.starts_with("HTTP/")) {  // again after "100 Continue"
      t.first_byte = std::chrono::duration_cast<std::chrono::microseconds>(t.last_activity - t.started);
      t.reply.headers.clear();
      return bytes;
    }
    if (auto colon = line.find(':'); colon != std::string_view::npos) {
      t.reply.headers.emplace_back(lower(line.substr(0, colon)), trim(line.substr(colon + 1)));
    }
    return bytes;
  }

  // Bytes that were sent are a sign of life, too.
  static int on_progress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t sent) {
    auto& t = *static_cast<Transfer*>(self);
    if (sent != t.sent) t.last_activity = Clock::now();
    t.sent = sent;
    return 0;
  }

  static bool tell_head(Transfer& t) {
    if (t.head_told) return true;
    t.head_told = true;
    long status = 0;
    curl_easy_getinfo(t.easy.get(), CURLINFO_RESPONSE_CODE, &status);
    t.reply.status = static_cast<int>(status);
    if (!t.reply.success()) return true;
    t.stopped = !t.job.exchange->on_head(t.reply).ok();
    return !t.stopped;
  }

  static size_t on_write(char* data, size_t size, size_t count, void* self) {
    auto& t = *static_cast<Transfer*>(self);
    const size_t bytes = size * count;
    if (!tell_head(t)) return 0;
    if (t.reply.success()) {
      t.stopped = !t.job.exchange->on_body({reinterpret_cast<const std::byte*>(data), bytes}).ok();
    } else {
      t.reply.body.append(data, std::min(bytes, kMaxErrorBody - std::min(kMaxErrorBody, t.reply.body.size())));
    }
    t.last_activity = Clock::now();  // after the sink: a slow disk is not a stalled store
    return t.stopped ? 0 : bytes;
  }

  void reap() {
    int left = 0;
    while (CURLMsg* message = curl_multi_info_read(multi_.get(), &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      const CURLcode code = message->data.result;
      auto it = active_.find(message->easy_handle);
      if (it == active_.end()) continue;
      auto transfer = std::move(it->second);
      active_.erase(it);
      end(std::move(transfer), code);
    }
  }

  void drop_stalled() {
    const auto now = Clock::now();
    if (now - last_stall_check_ < kStallCheck) return;
    last_stall_check_ = now;
    const auto slow = engine_.slow_after();
    std::vector<std::pair<std::unique_ptr<Transfer>, CURLcode>> dropped;
    for (auto it = active_.begin(); it != active_.end();) {
      Transfer& t = *it->second;
      const bool unwanted = t.job.exchange->unwanted();
      if (now - t.last_activity > patience(t) || unwanted) {
        dropped.emplace_back(std::move(it->second), unwanted ? CURLE_ABORTED_BY_CALLBACK : CURLE_OPERATION_TIMEDOUT);
        it = active_.erase(it);
        continue;
      }
      if (!t.slow_told && t.first_byte.count() == 0 && now - t.started > slow) {
        t.slow_told = true;
        t.job.exchange->on_slow();
      }
      ++it;
    }
    for (auto& [transfer, why] : dropped) end(std::move(transfer), why);
  }

  void end(std::unique_ptr<Transfer> t, CURLcode code) {
    if (code == CURLE_OK && !tell_head(*t)) code = CURLE_WRITE_ERROR;  // no body: the head is told here
    HttpReply& reply = t->reply;
    long status = 0;
    curl_easy_getinfo(t->easy.get(), CURLINFO_RESPONSE_CODE, &status);
    reply.status = static_cast<int>(status);
    reply.transport = t->stopped ? HttpReply::Transport::kStopped : transport_of(code);
    if (code != CURLE_OK && !t->stopped) reply.transport_error = t->error[0] ? t->error : curl_easy_strerror(code);
    curl_multi_remove_handle(multi_.get(), t->easy.get());
    recycle(std::move(t->easy));
    engine_.release(t->job, outcome_of(reply), t->first_byte);
    conclude(std::move(t->job), reply);
  }

  // The options of a pooled handle point into the old transfer: cleared, so that nothing dangles.
  void recycle(Easy easy) {
    curl_easy_setopt(easy.get(), CURLOPT_HTTPHEADER, nullptr);
    curl_easy_setopt(easy.get(), CURLOPT_ERRORBUFFER, nullptr);
    curl_easy_setopt(easy.get(), CURLOPT_POSTFIELDS, nullptr);
    curl_easy_setopt(easy.get(), CURLOPT_XFERINFODATA, nullptr);
    pool_.push_back(std::move(easy));
  }

  void abandon_all() {
    const Error error = closed();
    Active active = std::move(active_);
    active_.clear();
    for (auto& [easy, transfer] : active) {
      curl_multi_remove_handle(multi_.get(), easy);
      engine_.release(transfer->job, Concurrency::Outcome::kOther, {});
      transfer->job.exchange->abandoned(error);
    }
    abandon_waiting(error);
  }

  const Multi multi_;
  std::vector<Easy> pool_;
  Active active_;
  Clock::time_point last_stall_check_{};
};

// ---- carriers --------------------------------------------------------------------------------------------------------

thread_local HttpEngine::Carrier* HttpEngine::Carrier::current_ = nullptr;

void HttpEngine::Carrier::start() {
  thread_ = std::thread([this] {
    current_ = this;
    run();
  });
}

void HttpEngine::Carrier::stop() {
  stop_.store(true);
  interrupt();
  thread_.join();
}

void HttpEngine::Carrier::wake() {
  if (current_ != this && !woken_.exchange(true)) interrupt();
}

bool HttpEngine::Carrier::next_job(bool plain, Job& job) {
  woken_.store(false);
  if (!waiting_.empty()) {
    for (const auto now = Clock::now(); !waiting_.empty() && waiting_.begin()->first <= now;) {
      engine_.put_back(std::move(waiting_.begin()->second));
      waiting_.erase(waiting_.begin());
    }
  }
  return engine_.take(*this, plain, job, ask_again_);
}

void HttpEngine::Carrier::conclude(Job job, const HttpReply& reply) {
  const Verdict verdict = job.exchange->on_end(reply);
  if (!verdict.again) return;
  if (verdict.wait.count() <= 0) {
    engine_.put_back(std::move(job));
  } else {
    wait_with(std::move(job), verdict.wait);
  }
}

std::chrono::milliseconds HttpEngine::Carrier::may_wait(Clock::time_point now, std::chrono::milliseconds most) const {
  auto until = std::min(now + most, ask_again_);
  if (!waiting_.empty()) until = std::min(until, waiting_.begin()->first);
  return std::max(std::chrono::milliseconds(0), std::chrono::ceil<std::chrono::milliseconds>(until - now));
}

void HttpEngine::Carrier::after_wait(Clock::time_point now) {
  worked_ += slept_at_ - woke_at_;
  waited_ += now - slept_at_;
  woke_at_ = now;
  const auto all = worked_ + waited_;
  if (all < std::chrono::milliseconds(20)) return;
  busy_.store(static_cast<float>(worked_.count()) / static_cast<float>(all.count()), std::memory_order_relaxed);
  worked_ = waited_ = {};
}

void HttpEngine::Carrier::abandon_waiting(const Error& error) {
  for (auto& [when, job] : waiting_) job.exchange->abandoned(error);
  waiting_.clear();
}

Concurrency::Outcome outcome_of(const HttpReply& reply) {
  using T = HttpReply::Transport;
  if (reply.status == 503 || reply.status == 429) return Concurrency::Outcome::kThrottled;
  if (reply.transport == T::kConnect || reply.transport == T::kTimeout) return Concurrency::Outcome::kThrottled;
  return reply.transport == T::kOk && reply.status < 500 ? Concurrency::Outcome::kSuccess
                                                         : Concurrency::Outcome::kOther;
}

// ---- the engine ------------------------------------------------------------------------------------------------------

HttpEngine::HttpEngine(EngineOptions options)
    : options_(std::move(options)),
      concurrency_(options_.max_connections),
      slowest_(std::chrono::milliseconds(options_.slow_after_ms)),
      request_cap_(options_.max_requests_per_second),
      byte_cap_(options_.max_bandwidth) {
  init_curl_once();
  signal(SIGPIPE, SIG_IGN);  // CURLOPT_NOSIGNAL leaves it to us
  for (int i = 0; i < std::max(1, options_.threads); ++i) {
    if (options_.plain) workers_[1].push_back(make_plain_worker(*this));
    if (!options_.plain || i == 0) workers_[0].push_back(std::make_unique<Worker>(*this));
  }
  for (auto& workers : workers_) {
    for (auto& worker : workers) worker->start();
  }
}

HttpEngine::~HttpEngine() {
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
  }
  for (auto& workers : workers_) {
    for (auto& worker : workers) worker->stop();
  }
  const Error error = closed();
  for (auto& by_kind : queues_) {
    for (auto& jobs : by_kind) {
      for (auto& job : jobs) job.exchange->abandoned(error);
    }
  }
}

void HttpEngine::submit(std::shared_ptr<Exchange> exchange, bool demand) {
  std::unique_lock lock(mutex_);
  if (closing_) {
    lock.unlock();
    return exchange->abandoned(closed());
  }
  const bool plain = options_.plain && exchange->object_get();
  queue(demand, plain).push_back({std::move(exchange), demand, plain});
  if (!concurrency_.may_start(demand)) return;  // whoever ends a transfer takes it
  lock.unlock();
  wake_one(plain);
}

void HttpEngine::hurry(std::string_view key) {
  bool moved[2] = {};
  {
    std::lock_guard lock(mutex_);
    for (bool plain : {false, true}) {
      auto& fill = queue(false, plain);
      for (auto it = fill.begin(); it != fill.end();) {
        if (it->exchange->key() != key) {
          ++it;
          continue;
        }
        it->demand = moved[plain] = true;
        queue(true, plain).push_back(std::move(*it));
        it = fill.erase(it);
      }
    }
  }
  for (bool plain : {false, true})
    if (moved[plain]) wake_one(plain);
}

bool HttpEngine::take(const Carrier& who, bool plain, Job& job, Clock::time_point& ask_again) {
  ask_again = Clock::time_point::max();
  std::unique_lock lock(mutex_);
  Carrier& first = *workers_[plain].front();
  if (&who != &first && !first.busy()) {  // one thread that does it all costs less than two that share it
    if (queue(true, plain).empty() && queue(false, plain).empty()) return false;
    lock.unlock();
    first.wake();
    return false;
  }
  for (bool demand : {true, false}) {
    auto& jobs = queue(demand, plain);
    if (jobs.empty() || !concurrency_.may_start(demand)) continue;
    const auto now = Clock::now();
    if (auto wait = std::max(request_cap_.wait(demand, now), byte_cap_.wait(demand, now)); wait.count() > 0) {
      ask_again = std::min(ask_again, now + wait);
      continue;
    }
    job = std::move(jobs.front());
    jobs.pop_front();
    concurrency_.started(demand);
    request_cap_.charge(demand, 1, now);
    byte_cap_.charge(demand, static_cast<double>(job.exchange->expected_bytes()), now);
    return true;
  }
  return false;
}

void HttpEngine::put_back(Job job) {
  std::lock_guard lock(mutex_);
  auto& jobs = queue(job.demand, job.plain);
  jobs.push_front(std::move(job));
}

// A slot that comes free may be the other kind's: that one is woken, as it waits for events of its own only.
void HttpEngine::release(const Job& job, Concurrency::Outcome outcome, std::chrono::microseconds first_byte) {
  bool others;
  {
    std::lock_guard lock(mutex_);
    concurrency_.ended(job.demand, outcome, first_byte, Clock::now());
    if (first_byte.count() > 0) slowest_.add(first_byte);
    others = !queue(true, !job.plain).empty() || !queue(false, !job.plain).empty();
  }
  if (others) wake_one(!job.plain);
}

void HttpEngine::wake_one(bool plain) {
  auto& workers = workers_[plain];
  auto idle = std::find_if(workers.begin(), workers.end(), [](auto& w) { return !w->busy(); });
  (idle == workers.end() ? workers.front() : *idle)->wake();
}

int HttpEngine::concurrency_limit() const {
  std::lock_guard lock(mutex_);
  return concurrency_.limit();
}

std::chrono::milliseconds HttpEngine::slow_after() const {
  std::lock_guard lock(mutex_);
  return slowest_.after();
}

uint64_t HttpEngine::in_flight() const {
  std::lock_guard lock(mutex_);
  return static_cast<uint64_t>(concurrency_.active());
}

uint64_t HttpEngine::queued() const {
  std::lock_guard lock(mutex_);
  uint64_t count = 0;
  for (auto& by_kind : queues_) {
    for (auto& jobs : by_kind) count += jobs.size();
  }
  return count;
}

}  // namespace larder
