#include "cached/store/bos/bce_auth.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <vector>

#include "cached/base/text.h"
#include "cached/store/api/percent.h"

namespace larder {
namespace {

bool is_signed(std::string_view name, std::string_view value) {
  if (trimmed(value).empty() || name == "x-bce-request-id") return false;
  return name == "host" || name == "content-length" || name == "content-type" || name == "content-md5" ||
         name.starts_with("x-bce-");
}

std::string sorted_and_joined(std::vector<std::string> lines, char separator) {
  std::sort(lines.begin(), lines.end());
  return fmt::format("{}", fmt::join(lines, std::string_view(&separator, 1)));
}

}  // namespace

std::string bce_query(const NameValues& query) {
  std::vector<std::string> parts;
  for (auto& [name, value] : query) {
    std::string part = percent_encode(name, false) + "=" + percent_encode(value, false);
    if (!part.starts_with("authorization=")) parts.push_back(std::move(part));
  }
  return sorted_and_joined(std::move(parts), '&');
}

std::string bce_signed_headers(const NameValues& headers) {
  std::vector<std::string> names;
  for (auto& [name, value] : headers) {
    if (is_signed(name, value)) names.push_back(name);
  }
  return sorted_and_joined(std::move(names), ';');
}

std::string bce_canonical_request(const BceRequest& request) {
  std::vector<std::string> lines;
  for (auto& [name, value] : request.headers) {
    if (is_signed(name, value))
      lines.push_back(percent_encode(name, false) + ":" + percent_encode(trimmed(value), false));
  }
  return request.method + "\n" + (request.path.empty() ? "/" : request.path) + "\n" + bce_query(request.query) + "\n" +
         sorted_and_joined(std::move(lines), '\n');
}

std::string bce_date(int64_t time) {
  const time_t seconds = time;
  struct tm utc {};
  gmtime_r(&seconds, &utc);
  char out[32];
  strftime(out, sizeof out, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return out;
}

std::shared_ptr<const BceSigner::Key> BceSigner::key(const Credentials& who, int64_t time) {
  std::string prefix = fmt::format("bce-auth-v1/{}/{}/{}", who.access_key, bce_date(time), kExpireSeconds);
  MutexLock lock(mutex_);
  if (key_ && key_->prefix == prefix && key_->secret == who.secret_key) return key_;
  const std::string derived = hex(HmacSha256(who.secret_key).sign(prefix));
  key_ = std::make_shared<const Key>(Key{who.secret_key, std::move(prefix), HmacSha256(derived)});
  return key_;
}

std::string BceSigner::authorization(const BceRequest& request, const Credentials& who, int64_t time) {
  const auto with = key(who, time);
  return fmt::format("{}/{}/{}", with->prefix, bce_signed_headers(request.headers),
                     hex(with->hmac.sign(bce_canonical_request(request))));
}

}  // namespace larder
