// Mappings of lazy files, from the program's side: what mmap does, and fork. pager.h has the other side.
#pragma once
#include <sys/types.h>

#include "preload/lazy/lazy_read.h"
#include "preload/lazy/pager.h"

namespace larder {

// mmap(2) of a data file, served by the pager: an address or -errno. Always a private mapping, also if a shared one is
// asked for (it is read-only, so nobody can tell, but that mprotect may make it writable). -ENOSYS, -EPERM: userfaultfd
// is refused here. `what` names the file; its map fields are filled here. The descriptors stay the caller's.
long map_paged(void* at, size_t length, int prot, int flags, uint64_t offset, const LazyFiles& files, PagedFile what);

// madvise(MADV_WILLNEED) on an address that may be in such a mapping. False: it is not.
bool advise_paged(const void* start, size_t length);

}  // namespace larder
