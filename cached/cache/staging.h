// The files that pass through a full cache: staged ones, oldest first (policy keep; object_cache.h). Keeps the budget's
// account of them. Not thread-safe: guarded by ObjectCache's lock.
#pragma once
#include <deque>
#include <functional>
#include <string>
#include <unordered_map>

#include "cached/cache/known_datasets.h"

namespace larder {

class Staging {
 public:
  struct File {
    DatasetRecord* record;
    std::string path;
    ObjectId oid;
  };
  explicit Staging(Budget& budget) : budget_(budget) {}

  // As the newest. `bytes` on disk.
  void add(File file, uint64_t bytes);
  bool contains(ObjectId oid) const { return sizes_.contains(oid); }
  // A file went, or stays for good now. Nothing if it is not staged.
  void forget(const DatasetRecord& record, ObjectId oid);
  // The same for all of a dataset of which this is true.
  void forget_if(const DatasetRecord& record, const std::function<bool(const File&)>& which);
  // On disk, of a dataset's files; without reservations.
  uint64_t bytes_of(const DatasetRecord& record) const;

  // Removes the oldest file of one dataset (null: of all) that `remove` can remove; false: there is none. Those in use
  // become the newest; after `most_busy` of them the search ends.
  enum class Try { kFreed, kBusy, kGone };
  bool evict_oldest(const DatasetRecord* of, int most_busy, const std::function<Try(const File&)>& remove);

 private:
  Budget& budget_;
  std::deque<File> queue_;  // and files that went another way since
  std::unordered_map<ObjectId, uint64_t, OidHash> sizes_;
};

}  // namespace larder
