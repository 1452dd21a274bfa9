// bce-auth-v1, the signature of Baidu's cloud. It is our own code, checked against the vectors of the official SDKs
// and, in tests/tools/bos_server.py, against the official Python SDK's signer.
//
// Differences from AWS: header values are percent-encoded, the query is sorted as whole "name=value" texts, and the
// derived key is used as 64 characters of hex, not as 32 bytes.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "cached/base/mutex.h"
#include "cached/store/auth/credentials.h"
#include "cached/store/auth/sigv4.h"
#include "cached/store/checksum/digest.h"

namespace larder {

// The signed parts. Signed headers are host, content-length, content-type, content-md5 and every x-bce-* with a value
// except x-bce-request-id; other headers are ignored. `payload_hash` is not used.
using BceRequest = SigningRequest;

std::string bce_query(const NameValues& query);  // encoded and sorted: part of the signature and of the URL
std::string bce_canonical_request(const BceRequest& request);
std::string bce_signed_headers(const NameValues& headers);
std::string bce_date(int64_t time);  // 2014-06-13T05:57:36Z; seconds since the epoch

// Keeps the derived key of the second. Threads: authorization() from any thread.
class BceSigner {
 public:
  static constexpr int kExpireSeconds = 1800;  // as in the official SDKs
  // Value of the Authorization header. Every signed header is named in it.
  std::string authorization(const BceRequest& request, const Credentials& who, int64_t time);

 private:
  struct Key {
    std::string secret, prefix;
    HmacSha256 hmac;
  };
  std::shared_ptr<const Key> key(const Credentials& who, int64_t time);

  Mutex mutex_;
  std::shared_ptr<const Key> key_ GUARDED_BY(mutex_);
};

}  // namespace larder
