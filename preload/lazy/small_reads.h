// Small sequential reads of lazy objects, as stdio, tar and record readers make them, take their bytes from one read of
// 64 KiB made ahead. The content of a handle never changes, so such bytes stay right, whatever becomes of their chunk.
//
// Each read of a lazy object costs three small system calls beside the read itself (docs/shared_memory.md, "What it
// costs"). From 128 KiB on they do not matter; at 4 KiB they took half of the time.
#pragma once
#include <sys/types.h>

#include "preload/lazy/lazy_read.h"

namespace larder {

// As lazy_pread_present(), but copies from memory where it can: then a buffer that cannot be written is SIGSEGV, not
// EFAULT.
ssize_t buffered_pread(Lazy& lazy, void* buffer, size_t length, uint64_t offset);

}  // namespace larder
