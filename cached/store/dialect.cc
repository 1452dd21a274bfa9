#include "cached/store/dialect.h"

#include <curl/curl.h>

#include <cstdio>
#include <vector>
#include <ctime>

namespace larder {

std::string Dialect::etag(const HttpReply& head) const { return clean_etag(head.header("etag")); }

StoreCall Dialect::folder_call(std::string_view folder, bool split, std::string_view next) const {
  StoreCall call = list_call(next);
  std::erase_if(call.query, [](auto& option) { return option.first == "prefix"; });
  call.query.emplace_back("prefix", prefix() + std::string(folder));
  if (split) call.query.emplace_back("delimiter", "/");
  return call;
}

int64_t http_date_ns(std::string_view text) {
  const time_t seconds = curl_getdate(std::string(text).c_str(), nullptr);
  return seconds < 0 ? 0 : int64_t{seconds} * 1'000'000'000;
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
  const time_t seconds = timegm(&utc);
  return seconds < 0 ? 0 : int64_t{seconds} * 1'000'000'000 + fraction;
}

std::string clean_etag(std::string_view text) {
  if (text.starts_with("W/")) text.remove_prefix(2);
  if (text.size() >= 2 && text.front() == '"' && text.back() == '"') text = text.substr(1, text.size() - 2);
  std::string out;
  for (char c : text.substr(0, 255)) {
    // It goes back to the store in a header: what would end the line or the quotes must not be in it.
    if (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f && c != '"') out.push_back(c);
  }
  return out;
}

}  // namespace larder
