// Which versions of which datasets there are, and what a former daemon left of them on disk.
// Not thread-safe: guarded by ObjectCache's lock, but for match() and files_by_oid().
#pragma once
#include <vector>

#include "cached/cache/chunk_holder.h"
#include "cached/cache/pinning.h"
#include "cached/cache/resident_files.h"

namespace larder {

// Entries (old, new) of two versions that are the same object.
struct EntryMatch {
  uint32_t old_entry, new_entry;
};

class Takeover {
 public:
  Takeover(InodeTableWriter& inodes, Meter& meter, Budget& budget, ResidentFiles& files, Pinning& pinning)
      : inodes_(inodes), meter_(meter), budget_(budget), files_(files), pinning_(pinning) {}
  void hold_chunks(ChunkHolder* holder) { chunks_ = holder; }

  // Counts what is in a dataset's folder.
  void count_folder(DatasetRecord& record);
  // See ObjectCache::adopt(). `files`: the entries that are files, by object id.
  void adopt(DatasetRecord& record, std::shared_ptr<CatalogVersion> version, const std::vector<uint32_t>& files,
             const Sums& sums);
  static std::vector<uint32_t> files_by_oid(const Catalog& catalog);

  // See ObjectCache.
  static std::vector<EntryMatch> match(const CatalogVersion& from, const CatalogVersion& to);
  std::shared_ptr<CatalogVersion> switch_version(DatasetRecord& record, std::shared_ptr<CatalogVersion> next,
                                                 const std::vector<EntryMatch>& matches);
  // The file or chunks of an entry of a version that is not the current one.
  void remove_obsolete(DatasetRecord& record, CatalogVersion& old, uint32_t entry);
  void drop_version(DatasetRecord& record);

 private:
  std::vector<bool> check_folder(DatasetRecord& record, const CatalogVersion& version,
                                 const std::vector<uint32_t>& files, const Sums& sums);
  bool check_file(const Dataset& dataset, int folder, const char* name, const CatalogEntry& entry, const Sums& sums);

  InodeTableWriter& inodes_;
  Meter& meter_;
  Budget& budget_;
  ResidentFiles& files_;
  Pinning& pinning_;
  ChunkHolder* chunks_ = nullptr;
};

}  // namespace larder
