// What `larder run --mount SRC=PATH` and `--option KEY=VALUE` mean.
#pragma once
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "larder/result.h"

namespace larder::cli {

struct MountSpec {
  std::string source;  // a URL, or a dataset's name
  std::string path;    // absolute
};

// Splits SRC=PATH. PATH is absolute, so the split is at "=/"; a dataset's name has no '=', so there it is the first
// '='. A URL in which "=/" occurs twice could be split in two ways: EINVAL, and the message says how to name it.
Result<MountSpec> parse_mount(std::string_view text);

// KEY=VALUE at the first '='. EINVAL without one, for an empty key, and for keys that would put a secret on a command
// line, where every user of the machine can read it.
Result<std::map<std::string, std::string>> parse_options(const std::vector<std::string>& texts);

// True if `name` can be a dataset's name: [A-Za-z0-9][A-Za-z0-9._-]{0,62} (cached/meta/meta.h).
bool valid_name(std::string_view name);

}  // namespace larder::cli
