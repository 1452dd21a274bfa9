// Maps a store's refusal to the errno that a program gets, and tells whether another attempt may help. Threads: any.
#pragma once
#include <string>
#include <string_view>

#include "cached/base/text.h"
#include "larder/result.h"

namespace larder {

// The parts of an error body (XML of S3, JSON of BOS). Untrusted text.
struct ServiceError {
  std::string code;
  std::string message;
  std::string request_id;
  std::string region;  // where the bucket is, if the store said so
};

// 404 ENOENT; 401, 403 EACCES; 412, 416 ESTALE (the object is not the listed one); all else EIO.
int errno_of(int status, std::string_view code);

// True for replies that are worth another attempt. Broken connections always are.
bool worth_retrying(int status, std::string_view code);

// "s3://b/k: 403 AccessDenied: Access Denied (request id X)"; what the store said is printable().
std::string describe(std::string_view object, int status, const ServiceError& error);

}  // namespace larder
