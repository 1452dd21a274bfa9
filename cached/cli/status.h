// `larder status` and `larder top`.
#pragma once
#include <string>

#include "cached/cli/client.h"

namespace larder::cli {

// --json: the daemon's object as it is (docs/protocol.md), one line. Otherwise for people.
int show_status(const Client& client, bool json);

// Draws the status with rates every `seconds` until interrupted. Needs a terminal.
int show_top(const Client& client, double seconds);

std::string render_status(const Json& status);

// `before` and `after` were `seconds` apart.
std::string render_top(const Json& before, const Json& after, double seconds);

}  // namespace larder::cli
