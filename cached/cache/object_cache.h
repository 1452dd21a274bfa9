// Which objects are in the cache: admission, publication of a filled file, eviction, accounting. Thread-safe.
//
// Policies (design §5; docs/configuration.md). An object a program waits for is admitted
//   1. for good, while there is room, or room can be made from leftovers: files of datasets that are not mounted, or
//   not
//      used for kIdleAfter, least recently used dataset first;
//   2. keep: else into the staging share: the oldest staged files go first; while staging is below its share (0.5 % of
//   cache_size
//      unless set), or every staged file is in use, kept files of the same dataset make room, then those of others. The
//      share is small because what it takes is lost to the hit ratio: with cache/dataset = c it is c less the share.
//      sieve: else for good; what goes is the dataset's least visited (cached/catalog/sieve.h), then others' by their
//      policies.
// Background work (fill, warm) is admitted by rule 1 alone, but for pinned objects (cached/catalog/pins.h): they are
// never evicted to make room, and are admitted for good at the cost of whatever is not pinned. A dataset with a quota
// is a cache of that size within the cache: beyond it, it makes room from what it has itself.
//
// What a program has open or mapped is never evicted: the kernel tells by a write lease (nobody_else_has). A file that
// was unlinked while in use (replaced, corrupt, or opened between the test and the unlink) is a zombie: it counts until
// the lease succeeds; poll_zombies() looks.
//
// Lazy objects lie in the cache by chunks; ChunkHolder has them, this class their place in the budget.
//
// Sources: object_cache.cc (accounting, files), cache_room.cc (who gets room, what goes), cache_versions.cc (what
// versions there are).
//
// used = named cache files + chunks + reservations of flights + zombies + tables (Meter) <= cache_size, and `reserve`
// bytes of the file system stay free.
#pragma once
#include <atomic>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "cached/cache/chunk_holder.h"
#include "cached/cache/object_writer.h"
#include "cached/catalog/cache_dir.h"
#include "cached/catalog/dataset.h"
#include "cached/catalog/inode_table.h"

namespace larder {

class ObjectCache;
class LazyFile;

// Space for one object that is being fetched; given back when destroyed.
class Room {
 public:
  Room() = default;
  Room(Room&& o) noexcept;
  Room& operator=(Room&& o) noexcept;
  ~Room();
  void wrote(uint64_t bytes);  // of the reservation, so many are on disk now
  uint64_t bytes() const { return bytes_; }
  bool staged() const { return staged_; }

 private:
  friend class ObjectCache;
  ObjectCache* cache_ = nullptr;
  Dataset* dataset_ = nullptr;  // outlives it: who has the room has the object
  uint64_t bytes_ = 0;
  uint64_t unwritten_ = 0;
  bool staged_ = false;
  bool chunk_ = false;  // staged chunks are counted by their holder
};

struct CacheUsage {
  uint64_t size = 0, used = 0, pinned_by_readers = 0, staging = 0, files = 0;
};

struct EvictCounts {
  uint64_t files = 0, bytes = 0, busy = 0, pinned = 0;
};

class ObjectCache {
 public:
  static constexpr int64_t kIdleAfterNs = 600 * 1000000000LL;

  ObjectCache(CacheDir& dir, InodeTableWriter& inodes, Meter& meter, CacheLimits limits);

  // ---- datasets
  // Makes a dataset known; counts the files in its folder.
  void add(std::shared_ptr<Dataset> dataset);
  // Forgets it again; its files stay.
  void remove(const Dataset& dataset);
  // Makes room in the budget for a catalog or other table of this size.
  bool make_table_room(uint64_t bytes);
  // The version programs shall see, after a (re)start: residency is corrected against what is on disk; files that no
  // entry names, that have a wrong size or no checksum go.
  Status adopt(Dataset& dataset, std::shared_ptr<CatalogVersion> version);
  // Pairs of entries (old, new) that are the same object. Reads the catalogs only.
  struct Match {
    uint32_t old_entry, new_entry;
  };
  static std::vector<Match> match(const CatalogVersion& from, const CatalogVersion& to);
  // Makes `next` the current version: resident files that `matches` names stay resident. Returns the old version.
  std::shared_ptr<CatalogVersion> switch_version(Dataset& dataset, std::shared_ptr<CatalogVersion> next,
                                                 const std::vector<Match>& matches);
  // After programs were told of the new version: unlinks the files of entries of `old` that are not in the current one.
  void remove_obsolete(Dataset& dataset, const CatalogVersion& old);
  // Unmounted: files stay as leftovers.
  void drop_version(Dataset& dataset);

  // ---- objects
  // EAGAIN: nothing can be freed now (demand); ENOSPC: no room for background work; EFBIG: larger than the cache or the
  // quota.
  Result<Room> admit(const Object& object, bool demand);
  // True if background work of this size could be admitted without evicting anything.
  bool has_room(const Dataset& dataset, uint64_t size);
  // The most a dataset may have: its quota, or cache_size.
  uint64_t limit_of(const Dataset& dataset) const;
  // The written and finished file gets its name and becomes resident; the writer, as long as it lives, keeps it from
  // eviction. ESTALE: the object is not in the current version any more.
  Status publish(const Object& object, ObjectWriter& writer, Room room);
  // Frees at least this much, for a file system that turned out to be full.
  bool make_space(uint64_t bytes);
  // Opens a resident file; ENOENT if it is not there (the entry is ABSENT then).
  Result<Fd> open_resident(Dataset& dataset, uint32_t entry);
  // The same for a program, which gets the descriptor without a touch: in_use() knows of it.
  Result<Fd> open_for_program(Dataset& dataset, uint32_t entry);
  // One entry or, for a folder, all below it. What is in use or pinned stays.
  EvictCounts evict(Dataset& dataset, const std::string& path);
  // A corrupt file: unlinked whoever has it open.
  void drop_corrupt(Dataset& dataset, const CatalogVersion& version, uint32_t entry);

  // ---- chunks of lazy objects
  void hold_chunks(ChunkHolder* holder) { chunks_ = holder; }
  // Room for one chunk of an object; errors as admit(). staged() tells how it was admitted.
  Result<Room> admit_chunk(const Object& object, uint64_t bytes, bool demand);
  // The reservation has become a chunk.
  void chunk_landed(Room room);
  // Chunks went that the holder dropped by itself.
  void chunks_gone(uint64_t bytes);
  // The object's entry becomes LAZY, or is RESIDENT. ESTALE: the current version does not have it.
  struct Lazy {
    bool resident, pinned;
  };
  Result<Lazy> make_lazy(const Object& object);
  // All chunks are there: the lazy object becomes an ordinary cache file. `bytes`: what its chunks take.
  Status publish_whole(LazyFile& file, uint64_t sum, uint64_t bytes);
  // See ChunkHolder.
  ChunkHolder::Scrubbed scrub_chunks(const Dataset& dataset, ObjectId oid) {
    return chunks_ ? chunks_->scrub(dataset, oid) : ChunkHolder::Scrubbed{};
  }
  // Could it now?
  bool has_room_for_whole(const Dataset& dataset, uint64_t bytes) const;

  // ---- policies
  // Sets what is given.
  void configure(Dataset& dataset, std::optional<Policy> policy, std::optional<uint64_t> quota);
  // A dataset above its quota makes room, as far as nothing is in use.
  void keep_quota(Dataset& dataset);
  // Pins paths of the current version. ENOSPC: what is pinned would not fit beside the rest that a cache needs
  // (beside_pins); E2BIG: too many paths. Nothing has changed then.
  Status pin(Dataset& dataset, const std::vector<std::string>& paths);
  // The pins at a path and below it; returns how many. EINVAL: it is pinned through a folder above it.
  Result<size_t> unpin(Dataset& dataset, const std::string& path);

  // ---- housekeeping
  // Another program fills the file system: makes room until `reserve` is free again. Quotas that were exceeded (by
  // files in use) too.
  void keep_limits();
  void poll_zombies();
  void note_use();  // reads the touch bytes of mounted datasets
  CacheUsage usage();
  struct DatasetUsage {
    uint64_t files = 0, bytes = 0;  // whole files, and lazy objects of which a part is there with that part's bytes
    uint64_t lazy_partial = 0;      // such objects
    double objects = 0;             // files, a lazy object as the share of its chunks that is there
    uint64_t pinned_files = 0, pinned_bytes = 0;  // cached or not
  };
  DatasetUsage usage_of(const Dataset& dataset);
  // Whole files that programs have open or mapped now, of those they opened since this daemon started (at most
  // InUse::kMost).
  uint64_t in_use(Dataset& dataset);
  const CacheLimits& limits() const { return limits_; }

 private:
  friend class Room;
  enum class Removed { kGone, kBusy, kFreed, kZombie };
  struct Zombie {
    Fd fd;
    uint64_t bytes, inode;
  };
  struct Staged {
    std::shared_ptr<Dataset> dataset;
    std::string path;
    ObjectId oid;
  };

  enum class Kind { kKept, kStaged, kStagedChunk };
  uint64_t used_locked() const;
  static uint64_t held(const Dataset& dataset) {
    return dataset.cached_bytes + dataset.chunk_bytes + dataset.reserved_bytes;
  }
  bool fits(uint64_t need) const;
  bool fs_has(uint64_t bytes) const;
  bool within_quota(const Dataset& dataset, uint64_t need) const;
  bool fits(const Dataset& dataset, uint64_t need) const { return within_quota(dataset, need) && fits(need); }
  Error too_large(const Dataset& dataset, uint64_t need) const;
  Result<Kind> find_room(const Object& object, uint64_t need, bool demand, bool chunk);
  bool free_anything(uint64_t need);
  bool free_leftovers(const Dataset& for_whom, uint64_t need);
  void free_leftovers_of(Dataset& dataset, uint64_t need);
  bool make_room(Dataset& dataset, uint64_t need);
  bool make_staging_room(Dataset& dataset, uint64_t need);
  bool make_chunk_room(Dataset& dataset, uint64_t need);
  uint64_t share_of(const Dataset* dataset, uint64_t share) const;
  bool evict_own(Dataset& dataset, uint64_t need);
  bool evict_oldest_staged(const Dataset* of = nullptr);
  bool evict_kept(Dataset& dataset);
  bool evict_sieved(Dataset& dataset, CatalogVersion& version, Sieve& sieve);
  bool evict_any_kept(Dataset& first);
  bool evict_staged_chunk(const Dataset* of = nullptr);
  bool evict_kept_chunks(uint64_t enough, const Dataset* of = nullptr);
  bool whole_fits(const Dataset& dataset, uint64_t bytes) const;
  Sieve* sieve_of(Dataset& dataset, const CatalogVersion& version);
  static bool is_pinned(const Dataset& dataset, const std::string& path);
  uint64_t beside_pins(uint64_t limit) const;
  uint64_t room_for_pins(const Dataset& dataset) const;
  void follow_pins(Dataset& dataset);
  void unstage_pinned(Dataset& dataset, const CatalogVersion& version);
  Room reserve(Dataset& dataset, uint64_t bytes, Kind kind, bool chunk);
  void release(Room& room);
  Removed remove_file(Dataset& dataset, const char* name, bool even_if_used,
                      const std::function<void()>& before_unlink);
  Removed remove_entry(Dataset& dataset, CatalogVersion& version, uint32_t entry, bool even_if_used);
  void forget(Dataset& dataset, CatalogVersion& version, uint32_t entry);
  bool take_touches_locked(Dataset& dataset);
  void uncount(Dataset& dataset, uint64_t bytes);
  void forget_staged(Dataset& dataset, ObjectId oid);
  void count_folder(Dataset& dataset);
  std::vector<bool> check_folder(Dataset& dataset, const CatalogVersion& version, const std::vector<uint32_t>& files,
                                 const Sums& sums);
  bool check_file(Dataset& dataset, const char* name, const CatalogEntry& entry, const Sums& sums);
  void compact_sums(Dataset& dataset, const CatalogVersion& version);
  void remove_empty_leftover(Dataset& dataset);

  CacheDir& dir_;
  InodeTableWriter& inodes_;
  Meter& meter_;
  const CacheLimits limits_;
  mutable std::mutex mutex_;
  mutable int64_t asked_fs_ns_ = 0;  // when the file system said fs_free_; long ago at first
  mutable uint64_t fs_free_ = 0;
  std::vector<std::shared_ptr<Dataset>> datasets_;
  std::deque<Staged> staged_;
  std::unordered_map<ObjectId, uint64_t, OidHash> staged_sizes_;
  uint64_t staged_bytes_ = 0;  // with reservations
  uint64_t cached_bytes_ = 0;  // of all datasets, staged ones included
  uint64_t cached_files_ = 0;
  uint64_t chunk_bytes_ = 0;  // of lazy objects
  ChunkHolder* chunks_ = nullptr;
  uint64_t reserved_ = 0;
  std::atomic<uint64_t> unwritten_{0};
  uint64_t zombie_bytes_ = 0;
  std::list<Zombie> zombies_;
};

}  // namespace larder
