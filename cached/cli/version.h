#pragma once

namespace larder::cli {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace larder::cli
