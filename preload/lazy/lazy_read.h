// Lazy objects as a program reads them. include/larder/chunks.h has the formats, docs/semantics.md the promises.
//
// A descriptor of a lazy object is a real descriptor of a directory (its handle): the kernel answers read with EISDIR
// and mmap with ENODEV, and only then does a wrapper look here. The library remembers nothing about descriptors, so
// dup, fork, exec, SCM_RIGHTS and raw closes cannot make anything stale. The file position is the handle's own.
//
// A process keeps a small table from handle inodes to the opened data file and the mapped chunk map. Every read checks
// afterwards that the data descriptor is the one that the table names, since a program may have closed or replaced it.
// The data file of an object that has become whole stays open until the program closes a handle; like any file in use,
// it cannot be evicted meanwhile.
#pragma once
#include <sys/types.h>
#include <sys/uio.h>

#include "larder/chunks.h"
#include "preload/resolve/dispatch.h"

namespace larder {

// One lazy object, opened. `map` stays mapped for ever, but may come to show another object's map: `stamp` tells.
struct Lazy {
  Lazy() = default;
  ~Lazy() {
    if (own_map != 0) close_own();
  }
  Lazy(const Lazy&) = delete;
  Lazy& operator=(const Lazy&) = delete;
  void close_own();

  uint64_t handle_inode = 0;
  uint64_t dataset_id = 0;
  uint64_t size = 0;
  int64_t mtime_ns = 0;
  uint32_t chunk_shift = 0;
  uint32_t chunk_count = 0;
  ObjectId oid{};
  const ChunkMap* map = nullptr;
  int data_fd = -1;
  long cookie = 0;  // position of data_fd
  uint32_t slot = 0;
  uint32_t stamp = 0;
  uint32_t voided = 0;  // how often another object took the table's place during a read
  size_t own_map = 0;   // bytes of a mapping that is this one's alone; then the table does not matter
};

// How a program of this mount waits for the daemon.
struct Patience {
  Fallback fallback = Fallback::kWait;
  uint32_t wait_ms = 30000;
  uint64_t cache_dev = 0;
};
Patience patience(uint64_t dataset_id);

// Whether fd is the handle of a lazy object: 0 and *out, or -EBADF, -EISDIR (a directory or anything else that is not
// Larder's), -EIO, -ESTALE.
int find_lazy(int fd, Lazy* out);
// The same, from the result of fstat.
int find_lazy(const struct stat& st, Lazy* out);

// Called when a handle is closed. Drops cached descriptors of whole objects; readers reopen them.
void closing_handle();

// pread(2) on a handle: bytes, 0 at the end, or -errno.
ssize_t lazy_pread(Lazy& lazy, void* buffer, size_t length, uint64_t offset);

// Tells larderd that [offset, offset + length) will be read; returns at once.
void advise_chunks(const Lazy& lazy, uint64_t offset, uint64_t length);

// Makes the object an ordinary cache file and opens that, close-on-exec: a descriptor, or -errno (-EFBIG: it cannot fit
// in the cache).
int open_whole(const Lazy& lazy);

// Opens the data file and the chunk map for a mapping, which keeps them. Close-on-exec descriptors; 0 or -errno.
struct LazyFiles {
  int data = -1;
  int map = -1;
};
int open_lazy_files(uint64_t dataset_id, uint64_t handle_inode, LazyFiles* out);

}  // namespace larder
