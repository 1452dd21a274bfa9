// `larder run`: mounts, then becomes the command with the preload.
#pragma once
#include <string>
#include <vector>

#include "cached/cli/commands.h"
#include "cached/cli/private_daemon.h"

namespace larder::cli {

struct RunArgs {
  std::vector<std::string> mounts;   // SRC=PATH
  std::vector<std::string> options;  // KEY=VALUE, for every mount
  std::string fill;                  // of the mounts; empty: the daemon's default
  std::string policy;                // empty: the daemon's default
  DaemonOptions daemon;
  bool daemon_options_given = false;  // any of --cache-size, --cache-dir, --meta, --linger
  bool offline = false;               // stored versions, and nothing is listed
  bool quiet = false;
  std::vector<std::string> command;
};

// Returns only if the command was not started: 125 if Larder failed, 126 and 127 as env(1) does.
int run_command(const RunArgs& args);

// liblarder.so: LARDER_LIB, beside this executable, or in ../lib. An error names what was tried.
Result<std::string> find_library();

// LD_PRELOAD with `library` first, and only once.
std::string preload_value(const std::string& library, const std::string& existing);

}  // namespace larder::cli
