// Which objects are in the cache. The facade of the classes that decide it, with the lock that guards them.
// Thread-safe.
//
//   Budget         what lies in the cache, and what still fits     (budget.h)
//   Admission      whether an object may come in, and as what      (admission.h)
//   Eviction       what goes for it                                (eviction.h, staging.h)
//   ResidentFiles  whole files: their names, words and accounts    (resident_files.h)
//   Pinning        what never goes                                 (pinning.h)
//   Takeover       versions, and what a former daemon left         (takeover.h)
//   ChunkHolder    lazy objects, which lie in the cache by chunks  (chunk_holder.h, chunk_store.h)
//
// Policies (design §5; docs/configuration.md). An object that a program waits for is admitted
//   1. for good, while there is room, or while room can be made from leftovers: files of datasets that are not mounted,
//      or that no program used for ten minutes, least recently used dataset first;
//   2. keep: else into the staging share. The oldest staged files go first. While staging is below its share (0.5 % of
//      cache_size unless set), or every staged file is in use, kept files of the same dataset make room, then those of
//      others. The share is small because what it takes is lost to the hit ratio: with cache/dataset = c it is c less
//      the share.
//      sieve: else for good; the dataset's least visited files go (cached/catalog/sieve.h), then others' by their
//      policies.
// Background work (fill, warm) is admitted by rule 1 alone, except for pinned objects (cached/catalog/pins.h): they are
// never evicted to make room, and are admitted for good at the cost of whatever is not pinned. A dataset with a quota
// is a cache of that size within the cache: beyond it, it makes room from what it has itself.
//
// What a program has open or mapped is never evicted: the kernel tells by a write lease (nobody_else_has).
//
// Locks (docs/locks.md): this one before ChunkStore's and the inode table's. No callback runs with it held.
// A dataset that was not added, or was removed, has nothing here: its calls change nothing; admissions are ESTALE.
#pragma once
#include <memory>
#include <optional>
#include <vector>

#include "cached/base/mutex.h"
#include "cached/cache/admission.h"
#include "cached/cache/takeover.h"

namespace larder {

class ObjectCache;

// Space for one object or chunk that is being fetched; given back when destroyed. Not thread-safe.
class Room {
 public:
  Room() = default;
  Room(Room&& o) noexcept;
  Room& operator=(Room&& o) noexcept;
  ~Room();
  void wrote(uint64_t bytes);  // of the reservation, so many are on disk now
  uint64_t bytes() const { return cache_ ? reservation_->bytes : 0; }
  bool staged() const { return staged_; }
  bool passing() const { return passing_; }

 private:
  friend class ObjectCache;
  ObjectCache* cache_ = nullptr;
  Budget::ReservationAt reservation_;
  bool staged_ = false;
  bool passing_ = false;
};

struct CacheUsage {
  uint64_t size = 0, used = 0, pinned_by_readers = 0, staging = 0, files = 0;
  uint64_t passing = 0, passed = 0;  // bytes now; files since the start
};

struct EvictCounts {
  uint64_t files = 0, bytes = 0, busy = 0, pinned = 0;
};

class ObjectCache {
 public:
  ObjectCache(CacheDir& dir, InodeTableWriter& inodes, Meter& meter, CacheLimits limits);

  // ---- datasets
  // Makes a dataset known; counts the files in its folder and loads its pins.
  void add(std::shared_ptr<Dataset> dataset) EXCLUDES(mutex_);
  // Forgets it again; its files stay.
  void remove(const Dataset& dataset) EXCLUDES(mutex_);
  // Makes room in the budget for a catalog or other table of this size.
  bool make_table_room(uint64_t bytes) EXCLUDES(mutex_);
  // The version that programs shall see, after a (re)start: residency is corrected against what is on disk; files that
  // no entry names, that have a wrong size or no checksum go. Errors: those of reading the checksums.
  Status adopt(Dataset& dataset, std::shared_ptr<CatalogVersion> version) EXCLUDES(mutex_);
  using Match = EntryMatch;
  // Pairs of entries that are the same object. Reads the catalogs only.
  static std::vector<Match> match(const CatalogVersion& from, const CatalogVersion& to) {
    return Takeover::match(from, to);
  }
  // Makes `next` the current version: resident files that `matches` names stay resident. Returns the old version.
  std::shared_ptr<CatalogVersion> switch_version(Dataset& dataset, std::shared_ptr<CatalogVersion> next,
                                                 const std::vector<Match>& matches) EXCLUDES(mutex_);
  // After programs were told of the new version: unlinks the files of entries of `old` that are not in the current one.
  void remove_obsolete(Dataset& dataset, const CatalogVersion& old) EXCLUDES(mutex_);
  // Unmounted: files stay as leftovers.
  void drop_version(Dataset& dataset) EXCLUDES(mutex_);

  // ---- objects
  // EAGAIN: nothing can be freed now (demand); ENOSPC: no room for background work; EFBIG: larger than the cache or the
  // quota.
  Result<Room> admit(const Object& object, bool demand) EXCLUDES(mutex_);
  // For a program, when admit() said EAGAIN: room beyond cache_size for a file that gets no name (Budget::
  // passing_share). EAGAIN: there is none, either.
  Result<Room> admit_passing(const Object& object) EXCLUDES(mutex_);
  // The written and finished file of such a room: a descriptor for programs. The file goes when they have closed it.
  Result<std::shared_ptr<Fd>> pass(const Object& object, ObjectWriter& writer, Room room) EXCLUDES(mutex_);
  // True if background work of this size could be admitted without evicting anything.
  bool has_room(const Dataset& dataset, uint64_t size) EXCLUDES(mutex_);
  // The most that a dataset may have: its quota, or cache_size.
  uint64_t limit_of(const Dataset& dataset) const { return budget_.limit_of(dataset); }
  // The written and finished file gets its name and becomes resident; the writer, as long as it lives, keeps it from
  // eviction. ESTALE: the object is not in the current version any more.
  Status publish(const Object& object, ObjectWriter& writer, Room room) EXCLUDES(mutex_);
  // Frees at least this much, for a file system that turned out to be full.
  bool make_space(uint64_t bytes) EXCLUDES(mutex_);
  // Opens a resident file; ENOENT if it is not there (the entry is ABSENT then).
  Result<Fd> open_resident(Dataset& dataset, uint32_t entry) EXCLUDES(mutex_);
  // The same for a program, which gets the descriptor without a touch: in_use() knows of it.
  Result<Fd> open_for_program(Dataset& dataset, uint32_t entry) EXCLUDES(mutex_);
  // One entry or, for a folder, all below it. What is in use or pinned stays.
  EvictCounts evict(Dataset& dataset, const std::string& path) EXCLUDES(mutex_);
  // A corrupt file: unlinked whoever has it open.
  void drop_corrupt(Dataset& dataset, const CatalogVersion& version, uint32_t entry) EXCLUDES(mutex_);

  // ---- chunks of lazy objects
  void hold_chunks(ChunkHolder* holder) EXCLUDES(mutex_);
  Budget& budget() { return budget_; }
  // Room for one chunk of an object; errors as admit(). staged() tells how it was admitted.
  Result<Room> admit_chunk(const Object& object, uint64_t bytes, bool demand) EXCLUDES(mutex_);
  // The chunk that the room was for is written. See ChunkHolder::land.
  bool land_chunk(const std::shared_ptr<LazyFile>& file, uint32_t chunk, uint64_t sum, Room room) EXCLUDES(mutex_);
  // The object's entry becomes LAZY, or is RESIDENT. ESTALE: the current version does not have it.
  struct Lazy {
    bool resident, pinned;
    std::shared_ptr<Accounts> accounts;  // of its dataset
  };
  Result<Lazy> make_lazy(const Object& object) EXCLUDES(mutex_);
  // All chunks are there: the lazy object becomes an ordinary cache file. `bytes`: what its chunks take.
  Status publish_whole(LazyFile& file, uint64_t sum, uint64_t bytes) EXCLUDES(mutex_);
  // See ChunkHolder.
  ChunkHolder::Scrubbed scrub_chunks(const Dataset& dataset, ObjectId oid) EXCLUDES(mutex_);
  // True if publish_whole() would find room now.
  bool has_room_for_whole(const Dataset& dataset, uint64_t bytes) EXCLUDES(mutex_);

  // ---- policies
  // Sets what is given.
  void configure(Dataset& dataset, std::optional<Policy> policy, std::optional<uint64_t> quota) EXCLUDES(mutex_);
  // A dataset above its quota makes room, as far as nothing is in use.
  void keep_quota(Dataset& dataset) EXCLUDES(mutex_);
  // Pins paths of the current version. ENOSPC: what is pinned would not fit beside the rest that a cache needs; E2BIG:
  // too many paths. Nothing has changed then.
  Status pin(Dataset& dataset, const std::vector<std::string>& paths) EXCLUDES(mutex_);
  // The pins at a path and below it; returns how many. EINVAL: it is pinned through a folder above it.
  Result<size_t> unpin(Dataset& dataset, const std::string& path) EXCLUDES(mutex_);

  // ---- housekeeping
  // Makes room, as far as nothing is in use, until cache_size, the quotas and `reserve` are kept again: the former
  // daemon had a larger cache_size, another program fills the file system, what was in use is not any more. Counts anew
  // if an account went wrong.
  void keep_limits() EXCLUDES(mutex_);
  void poll_zombies() EXCLUDES(mutex_);
  void note_use() EXCLUDES(mutex_);  // reads the touch bytes of mounted datasets
  CacheUsage usage() EXCLUDES(mutex_);
  struct DatasetUsage {
    uint64_t files = 0, bytes = 0;  // whole files, and lazy objects of which a part is there with that part's bytes
    uint64_t lazy_partial = 0;      // such objects
    double objects = 0;             // files, a lazy object as the share of its chunks that is there
    uint64_t pinned_files = 0, pinned_bytes = 0;  // cached or not
  };
  DatasetUsage usage_of(const Dataset& dataset) EXCLUDES(mutex_);
  // A dataset's accounts; of one that is not known, empty ones.
  std::shared_ptr<const Accounts> accounts_of(const Dataset& dataset) EXCLUDES(mutex_);
  // Whole files that programs have open or mapped now, of those they opened since this daemon started (at most
  // InUse::kMost).
  uint64_t in_use(Dataset& dataset) EXCLUDES(mutex_);
  const CacheLimits& limits() const { return budget_.limits(); }

 private:
  friend class Room;
  Result<Room> admit_locked(const Object& object, uint64_t bytes, bool demand, bool chunk) REQUIRES(mutex_);
  Room room_locked(DatasetRecord& record, uint64_t need, Admission::Kind kind, bool chunk) REQUIRES(mutex_);
  void evict_one_locked(DatasetRecord& record, CatalogVersion& version, uint32_t entry, EvictCounts& counts)
      REQUIRES(mutex_);
  bool whole_fits_locked(const DatasetRecord& record, uint64_t bytes) REQUIRES(mutex_);
  void recount_locked() REQUIRES(mutex_);
  void keep_size() EXCLUDES(mutex_);
  void make_inodes(uint64_t count) EXCLUDES(mutex_);
  void release(Room& room) REQUIRES(mutex_);
  std::vector<std::shared_ptr<Dataset>> datasets() EXCLUDES(mutex_);

  CacheDir& dir_;
  InodeTableWriter& inodes_;
  Meter& meter_;
  Mutex mutex_;
  Budget budget_;  // its accounts are atomics; budget.h tells what else needs the lock
  KnownDatasets known_ GUARDED_BY(mutex_);
  Staging staging_ GUARDED_BY(mutex_);
  ResidentFiles files_ GUARDED_BY(mutex_);
  Eviction eviction_ GUARDED_BY(mutex_);
  Admission admission_ GUARDED_BY(mutex_);
  Pinning pinning_ GUARDED_BY(mutex_);
  Takeover takeover_ GUARDED_BY(mutex_);
  ChunkHolder* chunks_ GUARDED_BY(mutex_) = nullptr;
  uint64_t passed_ GUARDED_BY(mutex_) = 0;
};

}  // namespace larder
