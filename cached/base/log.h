// The daemon's log: one line an event, to stderr or a file. Everything else calls spdlog::info(...) and friends.
#pragma once
#include <spdlog/spdlog.h>

#include <string>

#include "larder/result.h"

namespace larder {

// level: trace, debug, info, warn, error. file: "" is stderr.
Status set_up_log(const std::string& file, const std::string& level);

}  // namespace larder
