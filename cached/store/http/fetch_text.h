// One small request to a service that hands out credentials. Blocks.
#pragma once
#include <string>
#include <vector>

#include "larder/result.h"

namespace larder {

struct HttpOnce {
  std::string method = "GET";
  std::string url;
  std::vector<std::string> headers;
  std::string body;
  long timeout_ms = 2'000;
  bool direct = true;  // metadata services are never behind a proxy
};

struct OnceReply {
  long status = 0;
  std::string body;  // at most 1 MiB: more is an error
};

// EIO: no reply.
Result<OnceReply> http_once(const HttpOnce& request);

// Tries that often. The body of a reply of 200, or an error that names the place.
Result<std::string> fetch_text(const HttpOnce& request, int tries);

}  // namespace larder
