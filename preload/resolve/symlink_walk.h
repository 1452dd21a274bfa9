// Follows a path through symlinks as the kernel does, with the datasets in the tree.
#pragma once

namespace larder {

// The absolute path behind (dirfd, path), with symlinks outside the datasets resolved and, unless follow_last, the last
// component kept; into out (PATH_MAX bytes, terminated; "" is the root). Returns its length, or -errno; does not say
// that it exists. *crossed: the way went through a mount, where the kernel could not follow.
long walk_from(int dirfd, const char* path, bool follow_last, char* out, bool* crossed);

}  // namespace larder
