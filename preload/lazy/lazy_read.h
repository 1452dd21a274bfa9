// Lazy objects as a program reads them. include/larder/chunks.h has the formats, docs/semantics.md the promises.
#pragma once
#include <sys/types.h>
#include <sys/uio.h>

#include "preload/lazy/handle_table.h"

namespace larder {

// What is there of a range, from its first byte on: bytes, 0 if the first chunk is not there (or at the end), or
// -errno. Does not wait for larderd.
ssize_t lazy_pread_present(Lazy& lazy, void* buffer, size_t length, uint64_t offset);

// One call's waiting for chunks. Nothing of the library's is held or open while it waits, so that a handler may jump
// out.
class ChunkWait {
 public:
  // Until the chunk at `offset` is there, which the rest of the range follows: 0 or -errno.
  int wait(Lazy& lazy, uint64_t offset, uint64_t length);
  // The call made progress: the patience begins anew.
  void went_on() { give_up_ = 0, waits_ = 0; }

 private:
  int64_t give_up_ = 0;
  int waits_ = 0;  // since the last progress
};

// pread(2) on a handle: bytes, 0 at the end, or -errno.
ssize_t lazy_pread(Lazy& lazy, void* buffer, size_t length, uint64_t offset);

// Tells larderd that [offset, offset + length) will be read; returns at once.
void advise_chunks(const Lazy& lazy, uint64_t offset, uint64_t length);

// Makes the object an ordinary cache file and opens that, close-on-exec: a descriptor, or -errno (-EFBIG: it cannot fit
// in the cache).
int open_whole(const Lazy& lazy);

}  // namespace larder
