// Absolute paths of folders and mounts, of descriptors and of the current directory. Wrappers use what dispatch.h
// declares; this header is for dispatch.cc and symlink_walk.cc.
#pragma once
#include <string.h>

#include "preload/resolve/dispatch.h"

namespace larder {

// The mount that an absolute normalised path lies under, or null.
inline const StateMount* mount_of(const State* s, const char* path, size_t len) {
  for (uint32_t i = 0; i < s->mount_count; ++i) {
    const StateMount& m = s->mounts[i];
    if (len < m.path_len || memcmp(path, m.path, m.path_len) != 0) continue;
    if (len == m.path_len || path[m.path_len] == '/') return &m;
  }
  return nullptr;
}

// Path of a real directory above mount points ("" is the root), or -EXDEV.
long ancestor_path(const struct stat& st, char* out);

// True if it is a real folder that a mount covers.
bool is_covered(const State* s, const struct stat& st);

// Directory that (dirfd) names, as an absolute path into out (PATH_MAX); "" is the root. -errno, or -EXDEV: neither
// ours nor above, or -ENOTDIR: a lazy file, which to the kernel is a directory.
long virtual_base(int dirfd, char* out);

// As virtual_base(), and the kernel's name for a real directory.
long any_base(int dirfd, char* out);

inline bool is_directory(const Identity& id) {
  return id.kind == Kind::kDirectory || id.kind == Kind::kAbove;
}

}  // namespace larder
