#include "cached/store/sigv4.h"

#include <algorithm>
#include <ctime>

#include "cached/store/percent.h"

namespace larder {
namespace {

// Trimmed, inner runs of spaces as one.
std::string canonical_value(std::string_view value) {
  std::string out;
  out.reserve(value.size());
  for (char c : value) {
    bool space = c == ' ' || c == '\t';
    if (space && (out.empty() || out.back() == ' ')) continue;
    out.push_back(space ? ' ' : c);
  }
  if (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

// Headers sorted by name, values of repeated ones joined in the order given.
NameValues canonical_headers(const NameValues& headers) {
  NameValues sorted = headers;
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  NameValues out;
  for (auto& [name, value] : sorted) {
    if (!out.empty() && out.back().first == name) {
      out.back().second += "," + canonical_value(value);
    } else {
      out.emplace_back(name, canonical_value(value));
    }
  }
  return out;
}

std::string header_names(const NameValues& canonical) {
  std::string out;
  for (auto& [name, value] : canonical) {
    if (!out.empty()) out.push_back(';');
    out += name;
  }
  return out;
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

std::string signed_headers(const NameValues& headers) { return header_names(canonical_headers(headers)); }

std::string canonical_request(const SigningRequest& request) {
  const NameValues headers = canonical_headers(request.headers);
  std::string out;
  out.reserve(512);
  out += request.method;
  out.push_back('\n');
  out += request.path.empty() ? "/" : request.path;
  out.push_back('\n');
  out += canonical_query(request.query);
  out.push_back('\n');
  for (auto& [name, value] : headers) {
    out += name;
    out.push_back(':');
    out += value;
    out.push_back('\n');
  }
  out.push_back('\n');
  out += header_names(headers);
  out.push_back('\n');
  out += request.payload_hash;
  return out;
}

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
                             int64_t time) {
  const std::string date = amz_date(time);
  std::string text = "AWS4-HMAC-SHA256\n" + date + "\n" + scope(date, region) + "\n" + sha256_hex(canonical);
  return hex(day_key(who, date, region)->key.sign(text));
}

std::string SigV4::authorization(const SigningRequest& request, const Credentials& who, std::string_view region,
                                 int64_t time) {
  const std::string canonical = canonical_request(request);
  return "AWS4-HMAC-SHA256 Credential=" + who.access_key + "/" + scope(amz_date(time), region) +
         ", SignedHeaders=" + signed_headers(request.headers) +
         ", Signature=" + signature(canonical, who, region, time);
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
  return canonical_query(request.query) + "&X-Amz-Signature=" + signature(canonical, who, region, time);
}

}  // namespace larder
