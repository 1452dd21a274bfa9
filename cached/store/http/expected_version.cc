#include "cached/store/http/expected_version.h"

#include <fmt/format.h>

#include "cached/base/text.h"

namespace larder {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

// Stores cut the fraction off when they make an HTTP date; rounding would be right, too.
bool same_date(int64_t listed_ns, int64_t date_ns) {
  return date_ns == listed_ns / kSecond * kSecond || date_ns == (listed_ns + kSecond / 2) / kSecond * kSecond;
}

}  // namespace

ExpectedVersion::ExpectedVersion(const ObjectVersion& listed, int64_t mtime_ns)
    : strong_(listed.if_match), weak_(listed.weak), listed_time_(listed.compare_date ? mtime_ns : 0) {}

std::string ExpectedVersion::difference(const HttpReply& reply) const {
  const std::string etag = clean_etag(reply.header("etag"));
  const std::string& expected = strong_.empty() ? weak_ : strong_;
  if (!expected.empty() && !etag.empty() && etag != expected)
    return fmt::format("its etag is {}, not {}", printable(etag), printable(expected));
  const std::string_view date = reply.header("last-modified");
  if (!date_.empty() && strong_.empty() && !date.empty() && date != date_)
    return fmt::format("it was modified on {}, not on {}", printable(date, 40), printable(date_, 40));
  const int64_t date_ns = http_date_ns(date);
  if (listed_time_ != 0 && date_ns != 0 && !same_date(listed_time_, date_ns))
    return fmt::format("it was modified on {}, not at the time listed", printable(date, 40));
  return {};
}

void ExpectedVersion::keep(const HttpReply& reply) {
  const std::string_view etag = reply.header("etag");
  if (strong_.empty() && weak_.empty()) (etag.starts_with(kWeak) ? weak_ : strong_) = clean_etag(etag);
  date_ = reply.header("last-modified");
}

}  // namespace larder
