#include "cached/store/api/endpoint.h"

#include <fmt/format.h>

#include <charconv>

#include "cached/base/text.h"

namespace larder {

Result<EndpointAddress> parse_endpoint(std::string_view text) {
  auto bad = [&](std::string_view why) {
    return make_error(EINVAL,
                      fmt::format("endpoint '{}': {}; write http://host:port or https://host", printable(text), why));
  };
  EndpointAddress out;
  std::string_view rest = text;
  for (std::string_view scheme : {"http://", "https://"}) {
    if (rest.starts_with(scheme)) out.scheme = scheme.substr(0, scheme.size() - 3);
  }
  if (out.scheme.empty()) return bad("it must begin with http:// or https://");
  rest.remove_prefix(out.scheme.size() + 3);
  if (rest.ends_with('/')) rest.remove_suffix(1);
  if (rest.empty()) return bad("the host is missing");
  if (rest.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]") !=
      std::string_view::npos) {
    return bad("it must be a host and perhaps a port, without a path or a user");
  }
  out.host = rest;
  const size_t colon = rest.rfind(':');
  if (!rest.starts_with('[') && rest.find(':') != colon) return bad("the host has more than one ':'");
  if (colon != std::string_view::npos && rest.find(']', colon) == std::string_view::npos) {
    unsigned port = 0;
    const std::string_view digits = rest.substr(colon + 1);
    auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
    if (failure != std::errc() || end != digits.data() + digits.size() || port == 0 || port > 65535)
      return bad("the port is no port");
    if (colon == 0) return bad("the host is missing");
    if (port == (out.scheme == "http" ? 80u : 443u)) out.host = rest.substr(0, colon);  // clients leave it out of Host
  }
  return out;
}

}  // namespace larder
