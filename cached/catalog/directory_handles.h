// Mirror directories: real, empty folders that stand for a folder of a dataset, so that a program can have a descriptor
// of it.
#pragma once
#include "cached/base/fd.h"
#include "cached/catalog/inode_table.h"

namespace larder {

// A lister that does not run under liblarder.so sees this name, a symlink whose target says so.
inline constexpr const char* kNotPreloaded = ".larder-not-preloaded";

// Makes (if there is none) and opens the mirror of a folder. It is known in the inode table before it has its name:
// programs open mirrors that are there without asking.
Result<Fd> open_mirror(int mirrors_fd, int tmp_fd, uint64_t dir_hash, uint64_t dataset_id, InodeTableWriter& inodes);

// After a restart: makes the mirrors that are there known.
void adopt_mirrors(int mirrors_fd, uint64_t dataset_id, InodeTableWriter& inodes);

// Removes the mirrors of folders for which `exists` is false.
void remove_mirrors(int mirrors_fd, const std::function<bool(uint64_t)>& exists);

}  // namespace larder
