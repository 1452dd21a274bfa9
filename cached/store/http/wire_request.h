// A request as HTTP/1.1 sends it over a plain connection, and whom to connect to. No state; errors do not occur: URLs
// come from a StoreProtocol.
#pragma once
#include <string>
#include <string_view>

#include "cached/store/http/attempt.h"

namespace larder {

struct WireRequest {
  std::string authority;  // "host:port" or "host", as in the URL
  std::string text;       // request line and headers; requests over plain connections have no body
};
WireRequest wire_request(const HttpRequest& request);

struct HostPort {
  std::string host;  // an IPv6 address without its brackets
  std::string port;  // 80 if the authority has none
};
HostPort split_authority(std::string_view authority);

}  // namespace larder
