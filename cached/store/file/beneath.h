// Opens files below a directory by key, never outside it: no "..", no symbolic link on the way. Threads: any.
#pragma once
#include <string>
#include <string_view>

#include "cached/base/fd.h"
#include "larder/result.h"

namespace larder {

// True for a key that names a file below a directory: no empty part, no "." or "..", no NUL, no '/' at an end.
bool plain_key(std::string_view key);

// "a/b" of "a/b/c"; empty if there is no '/'.
std::string_view parent_of(std::string_view key);
std::string_view name_of(std::string_view key);

// An O_PATH descriptor of the directory `path` below `root` (empty: root itself), whose every part is a real directory.
// With `make`, missing ones are made. ENOENT; ENOTDIR for a part that is a file or a symbolic link: the
// message names it.
Result<Fd> directory_beneath(int root, std::string_view path, bool make);

// Opens what a key leads to, symbolic links on the way followed; not valid, with errno, if that fails.
Fd open_below(const std::string& directory, std::string_view key, int flags);

// Where an open file is, as the kernel tells it; empty if it has no name any more.
std::string path_of(const Fd& file);
// Is an open file, however it was reached, below the directory that path_of() told of (or the directory itself)?
bool is_below(const Fd& file, std::string_view directory);

}  // namespace larder
