// What goes when room is needed, and in which order. The policies are told in object_cache.h; nothing that is in use or
// pinned goes. Not thread-safe: guarded by ObjectCache's lock.
//
// Each make_*() frees until `need` bytes fit; false: nothing more can go. They free from the whole cache or, where the
// dataset's quota is what stands in the way, from the dataset itself.
#pragma once
#include "cached/cache/chunk_holder.h"
#include "cached/cache/resident_files.h"

namespace larder {

class Eviction {
 public:
  Eviction(KnownDatasets& known, Budget& budget, Staging& staging, ResidentFiles& files)
      : known_(known), budget_(budget), staging_(staging), files_(files) {}
  void hold_chunks(ChunkHolder* holder) { chunks_ = holder; }

  // From datasets that are not mounted or not used for ten minutes.
  bool free_leftovers(const DatasetRecord& for_whom, uint64_t need);
  // For what is to stay.
  bool make_room(DatasetRecord& record, uint64_t need);
  // For a file that passes through.
  bool make_staging_room(DatasetRecord& record, uint64_t need);
  // For a chunk that passes through: chunks have a staging share of their own.
  bool make_chunk_room(DatasetRecord& record, uint64_t need);
  // One step towards it: a file, some chunks, or leftovers until it fits. False: nothing more can go.
  bool free_something(uint64_t need);
  // For the cache's own tables.
  bool free_anything(uint64_t need);
  // One file, whatever the budget says.
  bool evict_a_file();
  // Frees `bytes` whatever the budget says; true: something came free.
  bool make_space(uint64_t bytes);
  // One file or up to `need` bytes of chunks, of this dataset.
  bool evict_own(DatasetRecord& record, uint64_t need);

 private:
  bool fits(const DatasetRecord& r, uint64_t need) const { return budget_.fits(*r.dataset, *r.accounts, need); }
  bool within_quota(const DatasetRecord& r, uint64_t need) const {
    return budget_.within_quota(*r.dataset, *r.accounts, need);
  }
  void free_leftovers_of(DatasetRecord& record, uint64_t need);
  void remove_empty_leftover(DatasetRecord& record);
  Staging::Try try_staged(const Staging::File& file);
  bool evict_oldest_staged(const DatasetRecord* of = nullptr);
  bool evict_kept(DatasetRecord& record);
  bool evict_sieved(DatasetRecord& record, CatalogVersion& version, Sieve& sieve);
  bool evict_any_kept(DatasetRecord& first);
  bool evict_kept_of_all();
  bool evict_staged_chunk(const DatasetRecord* of = nullptr);
  bool evict_kept_chunks(uint64_t enough, const DatasetRecord* of = nullptr);

  KnownDatasets& known_;
  Budget& budget_;
  Staging& staging_;
  ResidentFiles& files_;
  ChunkHolder* chunks_ = nullptr;
};

}  // namespace larder
