// Larder's version: of the command line and of the daemon, which are installed together.
#pragma once

namespace larder {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace larder
