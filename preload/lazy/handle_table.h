// The table of lazy objects that this process has opened.
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
#include <errno.h>

#include "preload/lazy/chunk_run.h"
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

// What the words of its chunks are read with.
inline ChunkWords chunk_words(const Lazy& lazy) {
  return {lazy.map->words, lazy.chunk_shift, lazy.size};
}

// Whether the data file's descriptor still is ours. Ask after reading: between a question before and the read, another
// thread could close it and open something else there.
bool data_is_ours(const Lazy& lazy);

// False if another object took the table's place: the words that were read may be that one's.
bool unchanged(const Lazy& lazy);

// Opens the object anew, after data_is_ours() or unchanged() said no. 0 or -errno.
int reacquire(Lazy& lazy);

// Whether fd is the handle of a lazy object: 0 and *out, or -EBADF, -EISDIR (a directory or anything else that is not
// Larder's), -EIO, -ESTALE.
int find_lazy(int fd, Lazy* out);
// The same, from the result of fstat.
int find_lazy(const struct stat& st, Lazy* out);

// A descriptor was opened that may be a handle: opens now what reading it will need, so that a sandbox, another root,
// another user or a limit of descriptors that comes later does not matter. Does not wait for larderd.
void prepare_handle(int fd);

// Called when a handle is closed. Drops cached descriptors of whole objects; readers reopen them.
void closing_handle();

}  // namespace larder
