// The media type of an object by the ending of its name: browsers and gateways that serve a bucket go by it.
#pragma once
#include <string_view>

namespace larder {

// "image/jpeg" of "x/y.JPEG"; "application/octet-stream" of what is not known.
std::string_view content_type(std::string_view key);

}  // namespace larder
