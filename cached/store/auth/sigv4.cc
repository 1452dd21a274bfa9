#include "cached/store/auth/sigv4.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>

#include "cached/store/api/percent.h"

namespace larder {
namespace {

// Trimmed, inner runs of spaces as one.
void append_value(std::string& out, std::string_view value) {
  const size_t begin = out.size();
  for (char c : value) {
    const bool space = c == ' ' || c == '\t';
    if (space && (out.size() == begin || out.back() == ' ')) continue;
    out.push_back(space ? ' ' : c);
  }
  if (out.size() > begin && out.back() == ' ') out.pop_back();
}

// What is signed of the headers: "name:value\n" each, sorted by name, values of repeated ones joined in the order
// given, and their names, "a;b;c".
class SortedHeaders {
 public:
  explicit SortedHeaders(const NameValues& headers) {
    sorted_.reserve(headers.size());
    for (auto& header : headers)
      sorted_.push_back(&header);
    std::stable_sort(sorted_.begin(), sorted_.end(), [](auto* a, auto* b) { return a->first < b->first; });
  }
  void append_lines(std::string& out) const {
    for (size_t i = 0; i < sorted_.size(); ++i) {
      if (repeated(i))
        out.back() = ',';
      else
        out.append(sorted_[i]->first).append(":");
      append_value(out, sorted_[i]->second);
      out.push_back('\n');
    }
  }
  void append_names(std::string& out) const {
    for (size_t i = 0; i < sorted_.size(); ++i) {
      if (!repeated(i)) out.append(i > 0 ? ";" : "").append(sorted_[i]->first);
    }
  }

 private:
  bool repeated(size_t i) const { return i > 0 && sorted_[i - 1]->first == sorted_[i]->first; }
  std::vector<const NameValues::value_type*> sorted_;
};

// Into memory that is used again and again: a GET of an object has one signature, and no time for its allocations.
void make_canonical_request(std::string& out, const SigningRequest& request, const SortedHeaders& headers) {
  out.assign(request.method).append("\n").append(request.path.empty() ? "/" : request.path).append("\n");
  if (!request.query.empty()) out.append(canonical_query(request.query));
  headers.append_lines(out.append("\n"));
  headers.append_names(out.append("\n"));
  out.append("\n").append(request.payload_hash);
}

}  // namespace

std::string canonical_query(const NameValues& query) {
  NameValues encoded;
  encoded.reserve(query.size());
  for (auto& [name, value] : query)
    encoded.emplace_back(percent_encode(name, false), percent_encode(value, false));
  std::sort(encoded.begin(), encoded.end());
  std::string out;
  for (auto& [name, value] : encoded) {
    if (!out.empty()) out.push_back('&');
    out += name;
    out.push_back('=');
    out += value;
  }
  return out;
}

std::string signed_headers(const NameValues& headers) {
  std::string out;
  SortedHeaders(headers).append_names(out);
  return out;
}

std::string canonical_request(const SigningRequest& request) {
  std::string out;
  make_canonical_request(out, request, SortedHeaders(request.headers));
  return out;
}

// Of this thread's last second: one is signed for many objects.
static std::string_view date_of(int64_t time) {
  thread_local int64_t last_time = 0;
  thread_local char last[32] = "";
  if (last[0] == '\0' || time != last_time) {
    const time_t seconds = last_time = time;
    struct tm utc {};
    gmtime_r(&seconds, &utc);
    strftime(last, sizeof last, "%Y%m%dT%H%M%SZ", &utc);
  }
  return last;
}

std::string amz_date(int64_t time) {
  return std::string(date_of(time));
}

std::shared_ptr<const SigV4::DayKey> SigV4::day_key(const Credentials& who, std::string_view date,
                                                    std::string_view region) {
  const std::string_view day = date.substr(0, 8);
  MutexLock lock(mutex_);
  if (key_ && key_->date == day && key_->region == region && key_->secret == who.secret_key) return key_;
  const Sha256 date_key = HmacSha256("AWS4" + who.secret_key).sign(day);
  const Sha256 region_key = HmacSha256(date_key).sign(region);
  const Sha256 service_key = HmacSha256(region_key).sign(service_);
  key_ = std::make_shared<const DayKey>(DayKey{who.secret_key, std::string(day), std::string(region),
                                               fmt::format("{}/{}/{}/aws4_request", day, region, service_),
                                               HmacSha256(HmacSha256(service_key).sign("aws4_request"))});
  return key_;
}

void SigV4::append_signature(std::string& out, const std::string& canonical, const DayKey& key, std::string_view date) {
  thread_local std::string text;
  text.assign("AWS4-HMAC-SHA256\n").append(date).append("\n").append(key.scope).append("\n");
  hex_append(text, sha256(canonical));
  hex_append(out, key.key.sign(text));
}

std::string SigV4::authorization(const SigningRequest& request, const Credentials& who, std::string_view region,
                                 int64_t time) {
  const std::string_view date = date_of(time);
  const auto key = day_key(who, date, region);
  const SortedHeaders headers(request.headers);
  thread_local std::string canonical;
  make_canonical_request(canonical, request, headers);
  std::string out;
  out.reserve(320);
  out.append("AWS4-HMAC-SHA256 Credential=")
      .append(who.access_key)
      .append("/")
      .append(key->scope)
      .append(", SignedHeaders=");
  headers.append_names(out);
  append_signature(out.append(", Signature="), canonical, *key, date);
  return out;
}

}  // namespace larder
