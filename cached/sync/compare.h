// Decides from the two listings whether an object needs to be copied.
#pragma once
#include <string>

#include "cached/store/api/store.h"

namespace larder {

enum class Compare { kSizeAndTime, kSize, kChecksum };

// Size and time: the same if the sizes are equal and
//   - in a directory, the file's mtime is the original's, exactly or cut to whole us, ms or s (sync sets it);
//   - in a store, the object was written at or after the original's mtime (a store sets the time itself).
bool same_time(int64_t original_ns, int64_t copy_ns, bool copy_in_directory);

}  // namespace larder
