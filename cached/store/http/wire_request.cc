#include "cached/store/http/wire_request.h"

#include <algorithm>

namespace larder {

WireRequest wire_request(const HttpRequest& request) {
  std::string_view url = request.url;
  url.remove_prefix(std::min(url.size(), std::string_view("http://").size()));
  const size_t slash = url.find('/');
  const std::string_view authority = url.substr(0, slash);
  const std::string_view target = slash == std::string_view::npos ? "/" : url.substr(slash);
  WireRequest out;
  out.authority = authority;
  out.text.reserve(768);
  out.text.append(request.method).append(" ").append(target).append(" HTTP/1.1\r\n");
  out.text.append("Host: ").append(authority).append("\r\n");
  out.text.append(request.headers).append("\r\n");
  return out;
}

HostPort split_authority(std::string_view authority) {
  HostPort out{std::string(authority), "80"};
  std::string& host = out.host;
  if (const size_t colon = host.rfind(':'); colon != std::string::npos && host.find(']', colon) == std::string::npos) {
    out.port = host.substr(colon + 1);
    host.resize(colon);
  }
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  return out;
}

}  // namespace larder
