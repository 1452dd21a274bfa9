// Mappings of lazy files, from the program's side: what mmap does, and fork. pager.h has the other side.
#pragma once
#include <sys/types.h>

#include "preload/lazy/lazy_files.h"
#include "preload/lazy/pager.h"

namespace larder {

// mmap(2) of a data file, served by the pager: an address or -errno. The mapping is always private, even if a shared
// one is asked for (it is read-only, so the only difference is that mprotect can make it writable). -ENOSYS, -EPERM:
// userfaultfd is refused. `what` names the file; this function fills its map fields. The caller keeps the descriptors.
// The mapping of the chunk map is taken over, also if this fails.
long map_paged(void* at, size_t length, int prot, int flags, uint64_t offset, const LazyFiles& files, PagedFile what);

// madvise(MADV_WILLNEED) on an address that may be in such a mapping. False: it is not.
bool advise_paged(const void* start, size_t length);

}  // namespace larder
