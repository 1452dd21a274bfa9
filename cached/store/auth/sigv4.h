// AWS Signature Version 4 for S3 (and, for its test suite, any service). Own code: libcurl 7.88.1's CURLOPT_AWS_SIGV4
// neither encodes paths nor sorts queries (fixed in 8.3 to 8.14).
//
// S3's rules: each byte of a key is encoded once, paths are never normalised, the payload hash is part of the request.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cached/base/mutex.h"
#include "cached/store/auth/credentials.h"
#include "cached/store/checksum/digest.h"
#include "cached/store/http/http_headers.h"

namespace larder {

inline constexpr std::string_view kEmptySha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
inline constexpr std::string_view kUnsignedPayload = "UNSIGNED-PAYLOAD";

// What is signed. Every header given is signed: pass only what no proxy changes (never user-agent, accept-encoding).
struct SigningRequest {
  std::string method;
  std::string path;    // encoded, begins with '/'
  NameValues query;    // raw
  NameValues headers;  // lower-case names; host and x-amz-date included
  std::string payload_hash;
};

// "name=value&..." encoded and sorted by encoded name, then value: part of the signature and of the URL.
std::string canonical_query(const NameValues& query);
std::string canonical_request(const SigningRequest& request);
std::string signed_headers(const NameValues& headers);

// Times are seconds since the epoch.
std::string amz_date(int64_t time);  // 20130524T000000Z

// Signs for one region and service. Keeps the derived key of the day. Threads: all members from any thread.
class SigV4 {
 public:
  explicit SigV4(std::string service = "s3") : service_(std::move(service)) {}
  // Value of the Authorization header.
  std::string authorization(const SigningRequest& request, const Credentials& who, std::string_view region,
                            int64_t time);

 private:
  struct DayKey {
    std::string secret, date, region, scope;
    HmacSha256 key;
  };
  std::shared_ptr<const DayKey> day_key(const Credentials& who, std::string_view date, std::string_view region);
  static void append_signature(std::string& out, const std::string& canonical, const DayKey& key,
                               std::string_view date);

  const std::string service_;
  Mutex mutex_;
  std::shared_ptr<const DayKey> key_ GUARDED_BY(mutex_);
};

}  // namespace larder
