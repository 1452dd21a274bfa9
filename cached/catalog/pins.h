// What an operator pinned in one dataset (larder warm --pin): paths, each with all that is below it, also what a
// refresh adds there. A pinned object is never evicted to make room, and makes room for itself. Kept in the file "pins"
// of the dataset's folder, so it lives as long as the cache: 8 bytes magic, 8 bytes XXH3-64 of the rest, then each path
// with a 0 after it. Guarded by ObjectCache's lock.
#pragma once
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "cached/base/charge.h"
#include "cached/catalog/catalog_version.h"
#include "larder/result.h"

namespace larder {

class Pins {
 public:
  static constexpr size_t kMost = 100'000;  // paths; a folder is one

  // What a former daemon left; a damaged file is none, and said so in the log.
  static std::unique_ptr<Pins> open(int folder, int tmp, Meter& meter);

  const std::set<std::string>& paths() const { return paths_; }
  // Relative paths, "" for the whole dataset. E2BIG: too many. After an error nothing has changed (both).
  Status add(std::span<const std::string> paths);
  // The path and what is pinned below it; returns how many pins that were. EINVAL: it is pinned through a folder above
  // it.
  Result<size_t> remove(const std::string& path);

  // What `paths` would pin of this version besides what is pinned, in bytes on disk.
  uint64_t measure(const CatalogVersion& version, std::span<const std::string> paths) const;
  // The pins as entries of this version (null: none), in the order of the paths until `most` bytes are pinned; returns
  // the number of files that are left out.
  uint64_t follow(const CatalogVersion* version, uint64_t most);
  bool contains(uint32_t entry) const { return entry < entries_.size() && entries_[entry]; }
  uint64_t files() const { return files_; }
  uint64_t bytes() const { return bytes_; }  // on disk, whether it is cached or not

 private:
  Pins(int folder, int tmp, Meter& meter) : folder_(folder), tmp_(tmp), meter_(meter) {}
  Status load();
  Status replace(std::set<std::string> paths);

  int folder_, tmp_;
  Meter& meter_;
  Charge charge_;
  std::set<std::string> paths_;
  std::vector<bool> entries_;
  uint64_t files_ = 0, bytes_ = 0;
};

}  // namespace larder
