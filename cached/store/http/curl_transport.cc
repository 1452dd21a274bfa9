// The carrier for https and for everything that is no object's GET: libcurl, a multi handle a thread.
#include <curl/curl.h>

#include <algorithm>
#include <cstdio>
#include <unordered_map>

#include "cached/base/text.h"
#include "cached/store/http/stall_watch.h"
#include "cached/store/http/transport_thread.h"

namespace larder {
namespace {

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

HeaderList header_list(std::string_view lines) {
  HeaderList list;
  for (size_t at = 0, end; (end = lines.find("\r\n", at)) != std::string_view::npos; at = end + 2) {
    curl_slist* longer = curl_slist_append(list.get(), std::string(lines.substr(at, end - at)).c_str());
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

}  // namespace

// One thread and its multi handle: connections, DNS cache and easy handles are its own (sharing them between threads is
// a documented libcurl bug).
class HttpEngine::CurlTransport final : public TransportThread {
 public:
  explicit CurlTransport(HttpEngine& engine) : TransportThread(engine), multi_(curl_multi_init()) {
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
    Clock::time_point started;
    StallWatch stall{{}, 0, {}};
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
    transfer->started = Clock::now();
    transfer->stall = StallWatch(patience(*transfer), transfer->request.least_rate, transfer->started);
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
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &CurlTransport::on_header);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &CurlTransport::on_write);
    curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, &CurlTransport::on_progress);
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
    const auto now = Clock::now();
    t.stall.came(bytes, now);
    t.header_bytes += bytes;
    if (t.header_bytes > kMaxHeaderBytes) return 0;
    std::string_view line = trimmed({data, bytes});
    if (line.starts_with("HTTP/")) {  // again after "100 Continue"
      t.stall.restart(now);
      t.first_byte = std::chrono::duration_cast<std::chrono::microseconds>(now - t.started);
      t.reply.headers.clear();
      return bytes;
    }
    if (auto colon = line.find(':'); colon != std::string_view::npos) {
      t.reply.headers.add(line.substr(0, colon), trimmed(line.substr(colon + 1)));
    }
    return bytes;
  }

  // Bytes that were sent are a sign of life, too.
  static int on_progress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t sent) {
    auto& t = *static_cast<Transfer*>(self);
    if (sent != t.sent) t.stall.restart(Clock::now());
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
    t.stall.came(bytes, Clock::now());  // after the sink: a slow disk is not a stalled store
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
      if (t.stall.stalled(now) || unwanted) {
        if (!unwanted) snprintf(t.error, sizeof t.error, "no byte, or next to none, within stall_timeout_ms");
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
    for (auto& [transfer, why] : dropped)
      end(std::move(transfer), why);
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
    const Error error = make_error(EIO, "the store is being closed");
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

std::unique_ptr<HttpEngine::TransportThread> HttpEngine::make_curl_worker(HttpEngine& engine) {
  init_curl_once();
  return std::make_unique<CurlTransport>(engine);
}

}  // namespace larder
