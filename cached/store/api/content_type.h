// The media type of an object by the ending of its name, for browsers and gateways that serve the bucket.
#pragma once
#include <string_view>

namespace larder {

// "image/jpeg" of "x/y.JPEG"; "application/octet-stream" for unknown endings.
std::string_view content_type(std::string_view key);

}  // namespace larder
