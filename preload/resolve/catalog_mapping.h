// Versions of datasets, mapped: the table of Views, and the mapping of whole files. Everything here runs under the
// build lock.
#pragma once
#include "larder/names.h"
#include "preload/resolve/state.h"

namespace larder {

inline constexpr size_t kPage = 4096;
inline size_t pages(size_t n) {
  return (n + kPage - 1) & ~(kPage - 1);
}

// Maps a whole file over the range (grown if needed). Returns its size, or 0.
uint64_t map_over(Range* range, int fd, int prot);

// Opens a file of the cache directory for reading, close-on-exec. A descriptor or -errno.
int open_in(int root, const CacheName& name);

// The View of a dataset version (0: of the namespace), mapped if it is not yet, with one user more. `touch_fd` may be
// -1. Null if a file is gone (a newer version came), damaged, or not for this user; *shortage then tells whether it was
// this process that had no descriptor left.
View* use_view(int root, uint64_t dataset_id, uint64_t version, int touch_fd, bool* shortage);
void drop_view(View* v);

// Gives back the memory of versions that no State names and no directory stream iterates.
void empty_unused_views();

}  // namespace larder
