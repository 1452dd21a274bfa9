// Lazy objects as a program reads them. include/larder/chunks.h has the formats, docs/semantics.md the promises.
#pragma once
#include <sys/types.h>
#include <sys/uio.h>

#include "preload/lazy/handle_table.h"

namespace larder {

// pread(2) on a handle: bytes, 0 at the end, or -errno.
ssize_t lazy_pread(Lazy& lazy, void* buffer, size_t length, uint64_t offset);

// Tells larderd that [offset, offset + length) will be read; returns at once.
void advise_chunks(const Lazy& lazy, uint64_t offset, uint64_t length);

// Makes the object an ordinary cache file and opens that, close-on-exec: a descriptor, or -errno (-EFBIG: it cannot fit
// in the cache).
int open_whole(const Lazy& lazy);

}  // namespace larder
