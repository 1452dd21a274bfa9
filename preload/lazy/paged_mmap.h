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

// True as soon as there was a mapping whose pages the kernel itself cannot wait for (no CAP_SYS_PTRACE): a system call
// that is given an address in one of its absent pages is EFAULT.
extern std::atomic<bool> kernel_cannot_wait;

// Where the first address of such a mapping in a range is, or null. Any thread; no system call.
const void* first_paged(const void* start, size_t length);

// Touches the pages of a range that are in such mappings, which waits for them. False: there are none.
bool touch_paged(const void* start, size_t length);

}  // namespace larder
