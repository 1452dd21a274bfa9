// Names for ld.so: a tree of links that mirrors the datasets' folders.
//
// ld.so opens libraries without calling open(), tells them apart by their names, and looks for what they need in
// folders relative to their own ($ORIGIN). So a library of a dataset gets the name FOLDER/PATH, where FOLDER is the
// user's own and PATH the library's path in the mount; the name is a link to the cache file. What the library needs and
// its RUNPATH leads to gets its name before ld.so looks. Links stay for the next process; a wrong one is replaced.
#pragma once

namespace larder {

// A library of a dataset and all that it needs of datasets, named, and kept in the cache while this exists. One a
// dlopen: not the hot path, but no heap either.
class NamedLibrary {
 public:
  // `path` may lead into a dataset in any way.
  explicit NamedLibrary(const char* path);
  ~NamedLibrary();
  NamedLibrary(const NamedLibrary&) = delete;
  NamedLibrary& operator=(const NamedLibrary&) = delete;

  // What ld.so shall open, or null: the library cannot be had, or is no dataset's.
  const char* name() const;

 private:
  struct Work;
  Work* work_;
};

// True once there was such a library.
bool any_named();

// The path in the mount of a name that ld.so has of a library: a part of the same text. Other names as they are.
const char* mounted_name(const char* name);

}  // namespace larder
