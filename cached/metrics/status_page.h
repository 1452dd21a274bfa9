// The page that the metrics port shows at "/": one HTML, which reads /status.json every two seconds.
#pragma once
#include <string_view>

namespace larder {

extern const std::string_view kStatusPage;

}  // namespace larder
