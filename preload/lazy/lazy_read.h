// Lazy objects as a program reads them. include/larder/chunks.h has the formats, docs/semantics.md the promises.
//
// A descriptor of a lazy object is a real descriptor of a directory (its handle): the kernel answers read with EISDIR
// and mmap with ENODEV, and only then does a wrapper look here. Nothing has to be remembered about descriptors, so dup,
// fork, exec, SCM_RIGHTS and raw closes cannot make anything stale. The file position is the handle's own.
//
// What a process keeps is a small table from handle inodes to the opened data file and the mapped chunk map. Every read
// looks afterwards whether the data descriptor was what the table says: a program may have closed it or put something
// else there. The data file of an object that has become whole is kept only until the program closes a handle: like any
// file that is in use, it cannot be evicted meanwhile.
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
  uint32_t voided = 0;  // times that the table's place was taken by another object while this one was read
  size_t own_map = 0;   // bytes of a mapping that is this one's alone; then the table does not matter
};

// How a program of this mount waits for the daemon.
struct Patience {
  Fallback fallback = Fallback::kWait;
  uint32_t wait_ms = 30000;
  uint64_t cache_dev = 0;
};
Patience patience(uint64_t dataset_id);

// Is fd the handle of a lazy object? 0 and *out, or -EBADF, -EISDIR (a directory, or anything else: not ours), -EIO,
// -ESTALE.
int find_lazy(int fd, Lazy* out);
// The same from what fstat said of it.
int find_lazy(const struct stat& st, Lazy* out);

// A descriptor that was a handle is being closed: what is whole is let go, and opened again for whoever reads on.
void closing_handle();

// pread(2) on it: bytes, 0 at the end, or -errno.
ssize_t lazy_pread(Lazy& lazy, void* buffer, size_t length, uint64_t offset);

// Tells larderd that [offset, offset + length) will be read; returns at once.
void advise_chunks(const Lazy& lazy, uint64_t offset, uint64_t length);

// Makes it an ordinary cache file and opens that, close-on-exec: a descriptor, or -errno (-EFBIG: it cannot fit in the
// cache).
int open_whole(const Lazy& lazy);

// Opens the data file and the chunk map anew, for who keeps them (a mapping). Close-on-exec descriptors; 0 or -errno.
struct LazyFiles {
  int data = -1;
  int map = -1;
};
int open_lazy_files(uint64_t dataset_id, uint64_t handle_inode, LazyFiles* out);

}  // namespace larder
