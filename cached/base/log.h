// The daemon's log: one line an event, to stderr or a file. Call set_up_log() once, before other threads start; all
// other code calls spdlog::info(...) and its kin, from any thread. That never fails and never waits: a line that cannot
// be written now (the disk is full, nobody reads the pipe) is lost, and a later line says how many were.
#pragma once
#include <spdlog/spdlog.h>

#include <string>

#include "larder/result.h"

namespace larder {

// `level`: trace, debug, info, warn, error. `file`: empty means stderr. Fails if the level is unknown or the file
// cannot be opened; a file that cannot be made because its disk is full leaves stderr.
Status set_up_log(const std::string& file, const std::string& level);

}  // namespace larder
