// The address of a store's service, as the option `endpoint` gives it.
#pragma once
#include <string>
#include <string_view>

#include "larder/result.h"

namespace larder {

// Where requests go. Path style puts the bucket in the path, virtual style in the host.
struct EndpointAddress {
  std::string scheme, host;  // host with :port unless it is the scheme's own
  bool path_style = false;
};

// Splits "https://host[:port]" into scheme and host. EINVAL names what is wrong. A path of "/" is allowed.
Result<EndpointAddress> parse_endpoint(std::string_view text);

}  // namespace larder
