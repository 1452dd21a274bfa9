#include "cached/store/sigv4.h"

#include <algorithm>
#include <ctime>

#include "cached/store/percent.h"

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

// What is signed of the headers: "name:value\n" each, sorted by name, values of repeated ones joined in the order given; and
// their names, "a;b;c".
struct CanonicalHeaders {
  std::string lines, names;
};

CanonicalHeaders canonical_headers(const NameValues& headers) {
  std::vector<const NameValues::value_type*> sorted;
  sorted.reserve(headers.size());
  for (auto& header : headers) sorted.push_back(&header);
  std::stable_sort(sorted.begin(), sorted.end(), [](auto* a, auto* b) { return a->first < b->first; });
  CanonicalHeaders out;
  out.lines.reserve(512);
  out.names.reserve(128);
  for (size_t i = 0; i < sorted.size(); ++i) {
    const std::string& name = sorted[i]->first;
    if (i > 0 && sorted[i - 1]->first == name) {
      out.lines.back() = ',';
    } else {
      out.lines.append(name).append(":");
      out.names.append(i > 0 ? ";" : "").append(name);
    }
    append_value(out.lines, sorted[i]->second);
    out.lines.push_back('\n');
  }
  return out;
}

std::string canonical_request_of(const SigningRequest& request, const CanonicalHeaders& headers) {
  std::string out;
  out.reserve(1024);
  out.append(request.method).append("\n").append(request.path.empty() ? "/" : request.path).append("\n");
  out.append(canonical_query(request.query)).append("\n");
  return out.append(headers.lines).append("\n").append(headers.names).append("\n").append(request.payload_hash);
}

}  // namespace

std::string canonical_query(const NameValues& query) {
  NameValues encoded;
  encoded.reserve(query.size());
  for (auto& [name, value] : query) encoded.emplace_back(percent_encode(name, false), percent_encode(value, false));
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

std::string signed_headers(const NameValues& headers) { return canonical_headers(headers).names; }

std::string canonical_request(const SigningRequest& request) { return canonical_request_of(request, canonical_headers(request.headers)); }

std::string amz_date(int64_t time) {
  time_t seconds = time;
  struct tm utc {};
  gmtime_r(&seconds, &utc);
  char out[32];
  strftime(out, sizeof out, "%Y%m%dT%H%M%SZ", &utc);
  return out;
}

std::string SigV4::scope(std::string_view date, std::string_view region) const {
  std::string out(date.substr(0, 8));
  out.append("/").append(region).append("/").append(service_).append("/aws4_request");
  return out;
}

std::shared_ptr<const SigV4::DayKey> SigV4::day_key(const Credentials& who, std::string_view date,
                                                    std::string_view region) {
  const std::string_view day = date.substr(0, 8);
  std::lock_guard lock(mutex_);
  if (key_ && key_->date == day && key_->region == region && key_->secret == who.secret_key) return key_;
  const Sha256 date_key = HmacSha256("AWS4" + who.secret_key).sign(day);
  const Sha256 region_key = HmacSha256(date_key).sign(region);
  const Sha256 service_key = HmacSha256(region_key).sign(service_);
  key_ = std::make_shared<const DayKey>(DayKey{who.secret_key, std::string(day), std::string(region),
                                               HmacSha256(HmacSha256(service_key).sign("aws4_request"))});
  return key_;
}

std::string SigV4::signature(const std::string& canonical, const Credentials& who, std::string_view region,
                             std::string_view date) {
  std::string text = "AWS4-HMAC-SHA256\n";
  text.append(date).append("\n").append(scope(date, region)).append("\n").append(sha256_hex(canonical));
  return hex(day_key(who, date, region)->key.sign(text));
}

std::string SigV4::authorization(const SigningRequest& request, const Credentials& who, std::string_view region,
                                 int64_t time) {
  const std::string date = amz_date(time);
  const CanonicalHeaders headers = canonical_headers(request.headers);
  std::string out = "AWS4-HMAC-SHA256 Credential=";
  out.reserve(512);
  out.append(who.access_key).append("/").append(scope(date, region)).append(", SignedHeaders=").append(headers.names);
  return out.append(", Signature=").append(signature(canonical_request_of(request, headers), who, region, date));
}

std::string SigV4::presign(SigningRequest request, const Credentials& who, std::string_view region, int64_t time,
                           int expires) {
  const std::string date = amz_date(time);
  request.query.emplace_back("X-Amz-Algorithm", "AWS4-HMAC-SHA256");
  request.query.emplace_back("X-Amz-Credential", who.access_key + "/" + scope(date, region));
  request.query.emplace_back("X-Amz-Date", date);
  request.query.emplace_back("X-Amz-Expires", std::to_string(expires));
  request.query.emplace_back("X-Amz-SignedHeaders", signed_headers(request.headers));
  if (!who.session_token.empty()) request.query.emplace_back("X-Amz-Security-Token", who.session_token);
  request.payload_hash = kUnsignedPayload;
  const std::string canonical = canonical_request(request);
  return canonical_query(request.query) + "&X-Amz-Signature=" + signature(canonical, who, region, date);
}

}  // namespace larder
