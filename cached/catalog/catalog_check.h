// Whether a catalog that comes from the disk is one: a crash, or another program, may have left anything.
#pragma once
#include <cstdint>

#include "larder/result.h"

namespace larder {

// Checks everything that a catalog promises (include/larder/catalog.h: invariants 1-5, the checksum, that each entry is
// found under its path). Any thread; reads `bytes` bytes from `base`, and writes nothing. EBADMSG with what is wrong.
Status valid_catalog(const void* base, uint64_t bytes, uint64_t dataset_id, uint64_t version);

}  // namespace larder
