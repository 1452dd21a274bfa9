// All lazy objects of all datasets: which chunks are there, which go, when an object has become whole. Thread-safe.
//
// Policy (docs/shared_memory.md, "Lazy objects"): a chunk is to a lazy object what a file is to a dataset. While there
// is room it is kept; afterwards it goes through a staging share, first in first out, so that chunks behind sequential
// readers go first and what is kept gives its part of the hits in every epoch. A chunk can go at any time: its readers
// notice (the word), mappings fault again.
//
// Sources: chunk_store.cc (which objects there are, which chunks come and go), promotion.cc (checksums, becoming
// whole).
//
// Locks (docs/locks.md): ObjectCache's before this one. Calls of ChunkHolder come with ObjectCache's lock held.
// when_whole() runs `done` without a lock, on the caller's thread or the completer's.
#pragma once
#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <thread>
#include <unordered_map>

#include "cached/cache/lazy_file.h"
#include "cached/cache/object_cache.h"

namespace larder {

using LazyPtr = std::shared_ptr<LazyFile>;

class ChunkStore : public ChunkHolder {
 public:
  // Objects larger than `threshold` bytes are lazy.
  ChunkStore(CacheDir& dir, InodeTableWriter& inodes, ObjectCache& cache, Meter& meter, uint64_t threshold);
  ~ChunkStore();

  // Is this object to be lazy? Its store must be able to prove that ranges belong together.
  bool wants(const Object& object) const;
  // The lazy file of an object of the current version; made if there is none. Sets its entry LAZY. Null: it is
  // RESIDENT. EFBIG: it is too large for a cache of this size, whatever of it is read. ENOSPC: no room for its map.
  Result<LazyPtr> open(const Object& object);
  // By the real inode number of its handle; an evicted whole one is revived. ESTALE: none.
  Result<LazyPtr> find(uint64_t handle_inode);

  // A chunk that is written becomes visible. False: it is not wanted any more (dropped); its bytes are punched.
  bool landed(const LazyPtr& file, uint32_t chunk, uint64_t sum, Room room);
  // A chunk whose GET ended in the middle of it: its bytes are punched.
  void failed(const LazyPtr& file, uint32_t chunk);
  void set_mark(const LazyPtr& file, uint32_t chunk, bool on);
  // How many bytes of readahead one stream may have. In a full cache they must survive in the staging share until they
  // are read.
  uint64_t window(const LazyFile& file, uint32_t streams) const;
  // How many chunks one GET may fetch.
  uint32_t joined(const LazyFile& file) const;
  // Waits until an object whose chunks are all there is an ordinary cache file (or is not complete any more).
  void when_whole(const LazyPtr& file, std::function<void(const Status&)> done);

  void stop();

  // ---- ChunkHolder
  void take_over(const std::shared_ptr<Dataset>& dataset, const std::shared_ptr<Accounts>& accounts) override;
  void adopt(Dataset& dataset, CatalogVersion& version) override;
  void drop(const Dataset& dataset, ObjectId oid) override;
  void forget(const Dataset& dataset) override;
  void follow_pins(const Dataset& dataset, const CatalogVersion* version, const Pins& pins) override;
  bool land(const LazyPtr& file, uint32_t chunk, uint64_t sum, bool staged) override;
  uint64_t evict_staged(const Dataset* of) override;
  uint64_t evict_kept(const Dataset* of, uint64_t enough) override;
  uint64_t evict_object(const Dataset& dataset, ObjectId oid) override;
  void recount(const std::vector<std::shared_ptr<Accounts>>& datasets) override;
  Scrubbed scrub(const Dataset& dataset, ObjectId oid) override;
  Usage usage_of(const Dataset& dataset) const override;
  uint64_t staging_share() const override { return share_; }

 private:
  struct Staged {
    LazyPtr file;
    uint32_t chunk;
    std::chrono::steady_clock::time_point landed;
  };
  struct WhenWhole {
    LazyPtr file;
    std::function<void(const Status&)> done;
  };
  Status admit_map(const Object& object) EXCLUDES(mutex_);
  LazyPtr of_object_locked(const Dataset& dataset, ObjectId oid) const REQUIRES(mutex_);
  void unstage_locked(LazyFile& file) REQUIRES(mutex_);
  uint64_t punch_locked(LazyFile& file, uint32_t first, uint32_t count = 1) REQUIRES(mutex_);
  uint64_t punch_all_locked(LazyFile& file) REQUIRES(mutex_);
  LazyFile* least_used_locked(const Dataset* of) const REQUIRES(mutex_);
  void drop_locked(const LazyPtr& file) REQUIRES(mutex_);
  void complete_soon_locked(const LazyPtr& file) REQUIRES(mutex_);
  void run_completer();
  Status complete(LazyFile& file);
  Result<std::optional<CrcSum>> crc_of(const Object& object);
  Error refuse_whole(LazyFile& file);
  Result<uint64_t> sum_whole(LazyFile& file);
  void answer(LazyFile& file, const Status& status);

  CacheDir& dir_;
  InodeTableWriter& inodes_;
  ObjectCache& cache_;
  Budget& budget_;
  Meter& meter_;
  const uint64_t threshold_;
  const uint64_t share_;
  mutable Mutex mutex_;  // after ObjectCache's
  std::unordered_map<uint64_t, LazyPtr> by_handle_ GUARDED_BY(mutex_);
  std::map<std::pair<uint64_t, std::pair<uint64_t, uint64_t>>, LazyPtr> by_object_
      GUARDED_BY(mutex_);  // dataset id, object id
  std::deque<Staged> staged_ GUARDED_BY(mutex_);
  std::unordered_map<const LazyFile*, std::vector<bool>> staged_chunks_ GUARDED_BY(mutex_);
  std::vector<WhenWhole> waiting_ GUARDED_BY(mutex_);
  std::deque<LazyPtr> to_complete_ GUARDED_BY(mutex_);
  CondVar wake_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread completer_;
};

}  // namespace larder
