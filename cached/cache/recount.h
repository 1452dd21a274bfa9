// Repairs accounts that went wrong: counts what is really there. A fault of the cache, or somebody else changed its
// folders.
#pragma once
#include "cached/cache/chunk_holder.h"
#include "cached/cache/resident_files.h"

namespace larder {

// Nothing if the budget is trusted. Else replaces every account and writes one line to the log. With ObjectCache's lock
// held; lists every dataset's folder (about a second for a million files). `chunks`: null if there are none.
void recount_if_distrusted(Budget& budget, const KnownDatasets& known, const Staging& staging,
                           const ResidentFiles& files, ChunkHolder* chunks);

}  // namespace larder
