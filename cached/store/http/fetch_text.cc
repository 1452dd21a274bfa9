#include "cached/store/http/fetch_text.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <memory>
#include <thread>

#include "cached/base/text.h"
#include "cached/store/http/pacer.h"

namespace larder {

static constexpr size_t kMaxReply = 1 << 20;

static size_t collect(char* data, size_t size, size_t count, void* out) {
  auto& text = *static_cast<std::string*>(out);
  if (text.size() + size * count > kMaxReply) return 0;
  text.append(data, size * count);
  return size * count;
}

Result<OnceReply> http_once(const HttpOnce& request) {
  const std::unique_ptr<CURL, void (*)(CURL*)> easy(curl_easy_init(), curl_easy_cleanup);
  std::unique_ptr<curl_slist, void (*)(curl_slist*)> headers(nullptr, curl_slist_free_all);
  for (auto& line : request.headers) {
    curl_slist* longer = curl_slist_append(headers.get(), line.c_str());
    if (longer == nullptr) return make_error(ENOMEM, "out of memory");
    (void)headers.release();
    headers.reset(longer);
  }
  OnceReply reply;
  curl_easy_setopt(easy.get(), CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(easy.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy.get(), CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy.get(), CURLOPT_TIMEOUT_MS, request.timeout_ms);
  curl_easy_setopt(easy.get(), CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(easy.get(), CURLOPT_WRITEFUNCTION, &collect);
  curl_easy_setopt(easy.get(), CURLOPT_WRITEDATA, &reply.body);
  if (request.direct) curl_easy_setopt(easy.get(), CURLOPT_PROXY, "");
  if (request.method != "GET") {
    curl_easy_setopt(easy.get(), CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    curl_easy_setopt(easy.get(), CURLOPT_POSTFIELDS, request.body.data());
    curl_easy_setopt(easy.get(), CURLOPT_CUSTOMREQUEST, request.method.c_str());
  }
  const CURLcode code = curl_easy_perform(easy.get());
  if (code != CURLE_OK) return make_error(EIO, fmt::format("{}: {}", request.url, curl_easy_strerror(code)));
  curl_easy_getinfo(easy.get(), CURLINFO_RESPONSE_CODE, &reply.status);
  return reply;
}

Result<std::string> fetch_text(const HttpOnce& request, int tries) {
  Error last;
  for (int i = 0; i < tries; ++i) {
    if (i > 0) std::this_thread::sleep_for(backoff(i, false));
    auto reply = http_once(request);
    if (!reply.ok()) {
      last = reply.error();
    } else if (reply->status == 200) {
      return std::move(reply->body);
    } else {
      last =
          make_error(EACCES, fmt::format("{}: HTTP {}: {}", request.url, reply->status, printable(reply->body, 200)));
      if (reply->status < 500 && reply->status != 429 && reply->status != 400) break;
    }
  }
  return last;
}

}  // namespace larder
