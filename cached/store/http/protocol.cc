#include "cached/store/http/protocol.h"

#include <curl/curl.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <ctime>
#include <vector>

#include "cached/base/files.h"
#include "cached/store/checksum/etag_check.h"

namespace larder {

static constexpr int64_t kMostAge = int64_t{10} * 365 * 86400;  // seconds; more is nonsense

std::string StoreProtocol::etag(const HttpReply& head) const {
  return listed_etag(head.header("etag"));
}

ObjectVersion StoreProtocol::version(std::string_view etag) const {
  ObjectVersion out;
  if (etag.starts_with(kWeak))
    out.weak = etag.substr(kWeak.size());
  else
    out.if_match = etag;
  out.compare_date = !names_content(etag);
  return out;
}

StoreCall StoreProtocol::folder_call(std::string_view folder, bool split, std::string_view next) const {
  StoreCall call = list_call(next);
  std::erase_if(call.query, [](auto& option) { return option.first == "prefix"; });
  call.query.emplace_back("prefix", prefix() + std::string(folder));
  if (split) call.query.emplace_back("delimiter", "/");
  return call;
}

// A date that is none, or before 1970, is 0.
static int64_t to_ns(time_t seconds, int64_t fraction) {
  return seconds < 0 ? 0 : as_ns(seconds, fraction);
}

int64_t http_date_ns(std::string_view text) {
  return to_ns(curl_getdate(std::string(text).c_str(), nullptr), 0);
}

std::optional<int64_t> clock_offset(const HttpReply& reply) {
  const int64_t date = http_date_ns(reply.header("date")) / 1'000'000'000;
  if (date == 0) return std::nullopt;
  int64_t age = 0;
  const std::string_view text = reply.header("age");
  std::from_chars(text.data(), text.data() + text.size(), age);
  return date + std::clamp<int64_t>(age, 0, kMostAge) - time(nullptr);
}

int64_t iso_date_ns(std::string_view text) {
  struct tm utc {};
  int used = 0;
  const std::string copy(text);
  if (sscanf(copy.c_str(), "%4d-%2d-%2dT%2d:%2d:%2d%n", &utc.tm_year, &utc.tm_mon, &utc.tm_mday, &utc.tm_hour,
             &utc.tm_min, &utc.tm_sec, &used) != 6) {
    return 0;
  }
  utc.tm_year -= 1900;
  utc.tm_mon -= 1;
  int64_t fraction = 0;
  if (copy[static_cast<size_t>(used)] == '.') {
    int64_t unit = 100'000'000;
    for (size_t i = static_cast<size_t>(used) + 1; i < copy.size() && copy[i] >= '0' && copy[i] <= '9' && unit > 0;
         ++i) {
      fraction += (copy[i] - '0') * unit;
      unit /= 10;
    }
  }
  return to_ns(timegm(&utc), fraction);
}

std::string listed_etag(std::string_view text) {
  if (!text.starts_with(kWeak)) return clean_etag(text);
  const std::string etag = clean_etag(text);
  return etag.empty() ? etag : std::string(kWeak) + etag.substr(0, 255 - kWeak.size());
}

std::string clean_etag(std::string_view text) {
  if (text.starts_with(kWeak)) text.remove_prefix(kWeak.size());
  if (text.size() >= 2 && text.front() == '"' && text.back() == '"') text = text.substr(1, text.size() - 2);
  std::string out;
  out.reserve(text.size());
  for (char c : text.substr(0, 255)) {
    // It goes back to the store in a header: what would end the line or the quotes must not be in it.
    if (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f && c != '"') out.push_back(c);
  }
  return out;
}

}  // namespace larder
