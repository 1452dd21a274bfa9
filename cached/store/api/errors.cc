#include "cached/store/api/errors.h"

#include <fmt/format.h>

#include <algorithm>

#include "cached/base/text.h"

namespace larder {
namespace {

bool one_of(std::string_view word, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

}  // namespace

int errno_of(int status, std::string_view code) {
  // An archived object is there but cannot be read until somebody restores it: no matter of permission.
  if (code == "InvalidObjectState") return EIO;
  if (status == 404) return ENOENT;
  if (status == 401 || status == 403) return EACCES;
  if (one_of(code, {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "ExpiredToken", "InvalidToken"}))
    return EACCES;
  if (status == 412 || status == 416) return ESTALE;
  return EIO;
}

bool worth_retrying(int status, std::string_view code) {
  if (status == 500 || status == 502 || status == 503 || status == 504) return true;
  if (status == 429 || status == 408 || status == 499 || status == 520) return true;
  if (code.starts_with("Throttling")) return true;
  return one_of(code, {"RequestTimeout", "SlowDown", "SlowDownRead", "InternalError", "InternalErrors", "Http400",
                       "RequestExpired", "BadDigest", "IncompleteBody"});
}

std::string describe(std::string_view object, int status, const ServiceError& error) {
  std::string out = fmt::format("{}: HTTP {}", printable(object, 1200), status);
  if (!error.code.empty()) out += " " + printable(error.code, 80);
  if (!error.message.empty()) out += ": " + printable(error.message);
  if (!error.request_id.empty()) out += fmt::format(" (request id {})", printable(error.request_id, 80));
  return out;
}

}  // namespace larder
