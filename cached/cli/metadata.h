// Subcommands that work on the metadata itself when they are given its URL: from a machine without larderd, too.
#pragma once
#include <string>

#include "cached/cli/commands.h"

namespace larder::cli {

// `larder nodes [DATASET]`: who has how much of it, best first; `meta` empty: the daemon is asked.
int show_nodes(const std::string& meta, const std::string& name, bool json);

// `larder format NAME SRC --meta URL`
int format_directly(const std::string& meta, const FormatArgs& args);

// `larder refresh NAME --meta URL`: lists the bucket from here and publishes; nodes load it.
int refresh_directly(const std::string& meta, const std::string& name);

}  // namespace larder::cli
