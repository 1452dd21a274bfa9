// From the objects of a listing to a catalog (include/larder/catalog.h).
//
// Use: add() every object in strictly ascending byte order of keys, then finish() once, then write the image to a file.
// Keys become files; the folders above them are implied; an empty object "dir/" is a folder of its own. Objects that no
// path can name are left out, counted, and the first kMaxExamples of them kept:
//   an empty component ("a//b", a leading "/"), "." or "..", a component above 255 bytes, a NUL, a path above 4095
//   bytes, a non-empty object whose key ends in "/", an object whose key is also a folder (the folder wins).
// Not thread-safe. Memory while building: about 130 bytes an entry and the names.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cached/base/large_vector.h"
#include "cached/store/api/store.h"
#include "larder/catalog.h"
#include "larder/result.h"

namespace larder {

// The name of one version of one object: everything its listing tells. Framed: no two different objects give the hash
// the same input.
ObjectId make_object_id(uint64_t dataset_id, const ObjectView& object);

// A catalog in memory.
struct CatalogImage {
  CatalogHeader header{};
  LargeVector<CatalogEntry> entries;
  LargeVector<CatalogSlot> slots;
  LargeVector<char> names;

  Catalog view() const;
  uint64_t file_bytes() const;
};

struct SkippedKeys {
  static constexpr size_t kMaxExamples = 100;
  uint64_t count = 0;
  std::vector<std::string> examples;
  void add(std::string_view key);
};

class CatalogBuilder {
 public:
  explicit CatalogBuilder(uint64_t dataset_id);

  // So many objects will come, about: saves growing.
  void expect(uint64_t objects);
  // EINVAL: out of order, or an etag above 255 bytes. E2BIG: more entries than a catalog can have.
  Status add(const ObjectView& object);
  // Namespace catalog: an absolute path without its leading slash, in ascending order of path + "/".
  Status add_mount_point(std::string_view path, int64_t mtime_ns);
  // EEXIST: two folders with one path hash. `version` and the time go into the header.
  Result<CatalogImage> finish(uint64_t version, int64_t published_ns);

  // What the catalog takes at least, as far as it is known now.
  uint64_t bytes() const { return nodes_.size() * (sizeof(CatalogEntry) + sizeof(CatalogSlot)) + names_.size(); }
  const SkippedKeys& skipped() const { return skipped_; }

 private:
  struct OpenFolder {
    uint32_t node;
    uint32_t path_len;
    uint32_t last_child = 0;
  };
  Status in_order(std::string_view key);
  uint32_t enter_folders(std::string_view path, bool last_is_folder);
  uint32_t new_node(OpenFolder& parent, std::string_view path, std::string_view name, EntryType type);
  Status add_file(const ObjectView& object);
  Status add_folder(std::string_view path, int64_t mtime_ns, EntryType type);
  void group_children(LargeVector<uint32_t>& first, LargeVector<uint32_t>& children);
  void sort_children(const LargeVector<uint32_t>& first, LargeVector<uint32_t>& children);
  uint32_t drop_shadowed(uint32_t* children, uint32_t count);
  std::string path_of_node(uint32_t node) const;
  void number(const LargeVector<uint32_t>& first, const LargeVector<uint32_t>& children, CatalogImage& image,
              LargeVector<uint64_t>& hashes);

  std::string_view name_of(uint32_t node) const {
    return {names_.data() + nodes_[node].name_off, nodes_[node].name_len};
  }

  uint64_t dataset_id_;
  // In the order of keys; parent is a node number, dir.child_count is kept up to date, dir.reserved tells whether the
  // children came in another order than that of their names (keys sort "a-b" before "a/x").
  LargeVector<CatalogEntry> nodes_;
  LargeVector<uint64_t> hashes_;  // path hash of each node
  LargeVector<char> names_;
  std::vector<OpenFolder> open_;  // folders on the way to last_path_
  std::string last_key_;
  std::string last_path_;  // the last key that was accepted
  bool any_ = false;
  SkippedKeys skipped_;
};

// Writes an image into an empty file, and makes it 0444. The image is used up while it is written, but for its header:
// its memory serves the file.
Status write_catalog(CatalogImage&& image, int fd);

}  // namespace larder
