// Opens the engine that a metadata URL names. Threads: any; blocks. Errors: EINVAL for a URL of another kind, and what
// the engine's open() names; no message repeats a password.
#pragma once
#include <memory>
#include <string_view>

#include "cached/meta/meta.h"
#include "larder/result.h"

namespace larder {

// "local:" (below state_dir), "local:///path/to/dir", "redis://..." (cached/meta/redis/redis_url.h). A Redis that
// cannot be reached now is not an error here: each function of Meta tries again.
Result<std::unique_ptr<Meta>> open_meta(std::string_view url, std::string_view state_dir);

}  // namespace larder
