// The command line's grammar: subcommands, options, help.
#pragma once

namespace larder::cli {

// Returns the exit status. `larder run` does not return if the command was started.
int run_app(int argc, char** argv);

}  // namespace larder::cli
