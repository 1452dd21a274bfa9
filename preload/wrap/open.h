// Opens files and folders of datasets. Results are descriptors or -errno.
#pragma once
#include "preload/resolve/dispatch.h"

namespace larder {

// open(2) of a path that dispatch() found. Looks up again if the catalog turns out to be old.
int open_found(Found& f, int flags);

// A descriptor of a dataset's folder, close-on-exec if asked.
int open_directory(const Lookup& f, int flags);

// openat(2), whatever the path is, ours or not; close-on-exec as in flags; only for reading. Sets errno, returns -1.
int open_any(int dirfd, const char* path, int flags);

// openat2(2): what is ours as openat(2) (a dataset has no symlinks for `resolve` to forbid), everything else by the
// kernel.
long open_how_any(int dirfd, const char* path, const void* how, size_t size);

}  // namespace larder
