// bce-auth-v1, the signature of Baidu's services. It sits beside sigv4.h and differs in all details: header values are
// percent-encoded, the derived key is used as 64 hex characters, the payload is not signed.
#pragma once
#include <cstdint>
#include <string>

#include "cached/store/credentials.h"
#include "cached/store/sigv4.h"

namespace larder {

std::string bce_date(int64_t time);  // 2014-06-13T05:57:36Z

// The canonical request over exactly the headers given (lower-case names; empty values are left out).
std::string bce_canonical_request(const SigningRequest& request);

// Value of the Authorization header. request.payload_hash is not used.
std::string bce_authorization(const SigningRequest& request, const Credentials& who, int64_t time, int expires = 1800);

}  // namespace larder
