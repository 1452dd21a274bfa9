// Subcommands that work on the metadata itself if they are given its URL, even on a machine without larderd.
#pragma once
#include <string>

#include "cached/cli/commands.h"

namespace larder::cli {

// `larder nodes [DATASET]`: which node has how much of it, best first. Asks the daemon if `meta` is empty.
int show_nodes(const std::string& meta, const std::string& name, bool json);

// `larder format NAME SRC --meta URL`
int format_directly(const std::string& meta, const FormatArgs& args);

// `larder refresh NAME --meta URL`: lists the bucket from here and publishes; nodes load it.
int refresh_directly(const std::string& meta, const std::string& name);

}  // namespace larder::cli
