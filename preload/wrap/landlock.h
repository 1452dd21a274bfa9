// landlock_add_rule(2), which only syscall() has.
#pragma once
#include <stdint.h>

namespace larder {

// A rule for a path of a mount, or above one, allows nothing by itself: the files are in the cache. It gets others
// beside it, for the datasets' folders there, with the same right to read.
long call_landlock_add_rule(int ruleset, int type, const void* attributes, uint32_t flags);

}  // namespace larder
