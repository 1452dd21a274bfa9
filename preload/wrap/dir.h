// Directory streams over catalogs.
#pragma once
#include <dirent.h>

#include "preload/resolve/dispatch.h"

namespace larder {

// Entry of the namespace catalog if this real directory is one above mount points, else kNoEntry.
uint32_t ancestor_entry(const struct stat& st);

}  // namespace larder
