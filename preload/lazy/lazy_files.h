// The two files of a lazy object, its data and its chunk map: the one place where they are opened, mapped and checked.
#pragma once
#include "larder/chunks.h"
#include "preload/resolve/state.h"

namespace larder {

// How a program of this mount waits for the daemon.
struct Patience {
  Fallback fallback = Fallback::kWait;
  uint32_t wait_ms = 30000;
  uint64_t chunks_dev = 0;
};
Patience patience(uint64_t dataset_id);

// Waits until larderd has chunks [first, first + chunks); `flags` are ChunkRequest's. 0 or -errno.
int ask_chunks(uint64_t dataset_id, uint64_t handle_inode, uint32_t first, uint32_t chunks, uint32_t flags);

inline constexpr int kOpenAttempts = 5;  // an object that becomes whole, is evicted and comes again while it is opened

struct LazyFiles {
  int data = -1;                  // a close-on-exec descriptor of the caller's
  const ChunkMap* map = nullptr;  // checked
  size_t map_bytes = 0;           // of the mapping, whole pages
};

// One attempt. The map is shown in *range, which grows by a new one if it is too small and is never given back; null:
// in a mapping of the caller's. 0 or -errno, and then nothing is the caller's: -ENOENT if one of the files is not there
// just now, -EAGAIN if another thread of the program put something else in the place of a descriptor meanwhile.
int try_open_lazy_files(uint64_t dataset_id, uint64_t handle_inode, uint64_t chunks_dev, Range* range, LazyFiles* out);

// Calls once() until it neither says -ENOENT (then larderd is asked for the object) nor -EAGAIN. 0 or -errno; -ESTALE:
// larderd does not know the object any more; -EAGAIN: other threads use the numbers of our descriptors all the time.
template <typename Once>
int until_opened(uint64_t dataset_id, uint64_t handle_inode, Once once) {
  for (int attempt = 0;; ++attempt) {
    const int r = once();
    if (r != -ENOENT && r != -EAGAIN) return r;
    if (attempt >= kOpenAttempts) return r == -ENOENT ? -ESTALE : r;
    if (r == -EAGAIN) continue;
    if (const int error = ask_chunks(dataset_id, handle_inode, 0, 1, 0); error != 0) return error;
  }
}

// The files for whoever keeps them, with a mapping of its own. 0 or -errno as until_opened().
int open_lazy_files(uint64_t dataset_id, uint64_t handle_inode, LazyFiles* out);

}  // namespace larder
