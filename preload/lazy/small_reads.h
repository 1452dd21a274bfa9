// Small reads of lazy objects in a row, as stdio, tar and record readers make them: they take their bytes from one read
// of 64 KiB that was made ahead. What a handle shows never changes, so bytes that were right once stay right, whatever
// becomes of their chunk.
//
// Why: each read of a lazy object costs three small system calls beside the read itself (docs/shared_memory.md, "What
// it costs"); from 128 KiB on they do not matter, at 4 KiB they took half of the time.
#pragma once
#include <sys/types.h>

#include "preload/lazy/lazy_read.h"

namespace larder {

// As lazy_pread(), but copies from memory where it can: a buffer that cannot be written is a signal then, not EFAULT.
ssize_t buffered_pread(Lazy& lazy, void* buffer, size_t length, uint64_t offset);

}  // namespace larder
