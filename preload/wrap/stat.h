// stat's answers for files and folders of datasets. docs/semantics.md, "Attributes".
#pragma once
#include <sys/stat.h>

#include "preload/resolve/dispatch.h"

namespace larder {

// CPython and others buffer by st_blksize: a 150 KB file is then read in 2 calls, not 38.
inline constexpr long kBlockSize = 256 * 1024;

void fill_stat(const Lookup& f, struct stat* st);

// Replaces the kernel's answer for a descriptor by stat's answer for its path. 1: done. 0: not a dataset's, nothing
// changed. Or -errno.
int patch_stat(struct stat* st);

// 0, or the errno of access(2) on a read-only file system.
int check_access(const Lookup& f, int mode);

}  // namespace larder
