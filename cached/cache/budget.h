// The cache's accounts: how many bytes lie in it and as what, altogether and of each dataset, and what still fits.
//
// used = named files + chunks + reservations + zombies + tables (Meter) <= cache_size. `reserve` bytes of the file
// system and of the node's memory stay free, and some inodes.
//
// An account never goes wrong silently. Taking more from one than it holds sets it to 0, calls on_underflow (unit tests
// make that fatal) and marks the budget as distrusted; ObjectCache then counts anew what is there and logs it
// (recount.h).
//
// Threads: every account is an atomic and can be read at any time. Accounts of files and reservations change under
// ObjectCache's lock, those of chunks under ChunkStore's; what fits holds only as long as ObjectCache's lock is held.
// Units: bytes on disk (whole pages). Nothing here fails.
#pragma once
#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "cached/base/charge.h"
#include "cached/catalog/cache_dir.h"
#include "cached/catalog/dataset.h"
#include "cached/config/config.h"

namespace larder {

class Account {
 public:
  explicit constexpr Account(const char* name) : name_(name) {}
  const char* name() const { return name_; }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }
  void add(uint64_t n) { value_.fetch_add(n, std::memory_order_relaxed); }
  // False: it held less, and is 0 now.
  [[nodiscard]] bool take(uint64_t n);
  void set(uint64_t n) { value_.store(n, std::memory_order_relaxed); }

 private:
  const char* const name_;
  std::atomic<uint64_t> value_{0};
};

// Of one dataset, or of all. Shared by whoever has something in the cache, so that a dataset can be forgotten first.
struct Accounts {
  Account cached{"cached bytes"};  // files that have a name, staged ones included
  Account files{"cached files"};   // their number
  Account staged{"staged bytes"};  // of `cached` and `reserved`: staged files and their reservations
  Account reserved{"reserved bytes"};
  Account chunks{"chunk bytes"};  // of lazy objects that are not whole
  Account passing{
      "passing bytes"};  // files that are or were served without a name; they count as reserved, then zombies
  Account staged_chunks{"staged chunk bytes"};  // of `chunks`, and of objects that became whole a moment ago

  uint64_t held() const { return cached.value() + chunks.value() + reserved.value(); }
};

class Budget {
 public:
  // Bytes for an object or chunk that is being fetched.
  struct Reservation {
    std::shared_ptr<Accounts> of;
    uint64_t bytes;
    uint64_t unwritten;  // of them, not on disk yet; whoever has the room changes it
    bool staged;         // counted as staged
  };
  using ReservationAt = std::list<Reservation>::iterator;

  // Kept free for tables that grow by a page after an admission (checksums, catalogs of mount points).
  static constexpr uint64_t kTableSlack = 16 * 1024;
  // Kept free: an object that is admitted makes up to three (a handle, a map, its bytes), and many come at a time.
  static constexpr uint64_t kFreeInodes = 1024;

  Budget(const CacheDir& dir, Meter& meter, CacheLimits limits) : dir_(dir), meter_(meter), limits_(limits) {}

  const CacheLimits& limits() const { return limits_; }
  const Accounts& total() const { return total_; }
  uint64_t zombies() const { return zombies_.value(); }
  uint64_t tables() const { return meter_.load(std::memory_order_relaxed); }
  uint64_t used() const { return total_.held() + zombies() + tables(); }

  // ---- what comes and goes
  void file_came(Accounts& of, uint64_t bytes);
  void file_went(Accounts& of, uint64_t bytes);
  void file_staged(Accounts& of, uint64_t bytes) { up(&Accounts::staged, of, bytes); }
  void file_unstaged(Accounts& of, uint64_t bytes) { down(&Accounts::staged, of, bytes); }
  void chunks_came(Accounts& of, uint64_t bytes) { up(&Accounts::chunks, of, bytes); }
  void chunks_went(Accounts& of, uint64_t bytes) { down(&Accounts::chunks, of, bytes); }
  void chunks_staged(Accounts& of, uint64_t bytes) { up(&Accounts::staged_chunks, of, bytes); }
  void chunks_unstaged(Accounts& of, uint64_t bytes) { down(&Accounts::staged_chunks, of, bytes); }
  void passing_came(Accounts& of, uint64_t bytes) { up(&Accounts::passing, of, bytes); }
  void passing_went(Accounts& of, uint64_t bytes) { down(&Accounts::passing, of, bytes); }
  void zombie_came(uint64_t bytes) { zombies_.add(bytes); }
  void zombie_went(uint64_t bytes) { take(zombies_, bytes); }
  // The files of a dataset that is no longer known.
  void forget_files(Accounts& of);

  ReservationAt reserve(std::shared_ptr<Accounts> of, uint64_t bytes, bool staged);
  void release(ReservationAt reservation);
  void wrote(Reservation& reservation, uint64_t bytes);

  // ---- what fits
  bool fits(uint64_t need) const;
  // What the file systems and the node's memory have beside the reserve and what is being written; asks the kernel.
  // `bytes` of them are wanted.
  struct Lack {
    uint64_t bytes = 0, inodes = 0;
  };
  Lack lack(uint64_t bytes) const;
  // More is used than cache_size: the former daemon had a larger one, or tables grew.
  bool exceeded() const { return used() > limits_.cache_size; }
  // What may lie in the cache beyond cache_size while everything in it is in use: a thirty-second more, so that one
  // reader who keeps files open leaves room for what others read. A dataset has at most half of it.
  uint64_t passing_share() const { return limits_.cache_size / 32; }
  bool passing_fits(const Accounts& of, uint64_t need) const;
  // The same for a chunk; as long as there are more chunks, one of them goes instead.
  bool passing_chunk_fits(uint64_t need) const;
  bool within_quota(const Dataset& dataset, const Accounts& of, uint64_t need) const;
  bool fits(const Dataset& dataset, const Accounts& of, uint64_t need) const {
    return within_quota(dataset, of, need) && fits(need);
  }
  // True if an object of this size fits into the cache when all else is gone, and into the dataset's quota.
  bool can_ever_fit(const Dataset& dataset, uint64_t need) const;
  // The most that a dataset may hold: its quota, or cache_size.
  uint64_t limit_of(const Dataset& dataset) const;
  // The part of a staging share that a dataset has (null: all of it): within a quota it is as much smaller as the quota
  // is smaller than the cache.
  uint64_t share_of(const Dataset* dataset, uint64_t share) const;

  // ---- when an account went wrong
  static inline std::atomic<void (*)(const char* account)> on_underflow{nullptr};
  // The accounts may be wrong, for this reason (a literal): they are to be counted anew.
  void distrust(const char* why) { distrusted_.store(why, std::memory_order_relaxed); }
  // Why, or null.
  const char* distrusted() const { return distrusted_.load(std::memory_order_relaxed); }
  struct Found {
    std::shared_ptr<Accounts> of;
    uint64_t cached, files, staged;  // staged: files, without reservations
  };
  // Replaces what is counted as files, zombies and reservations by what is there. The budget is trusted again.
  void replace(const std::vector<Found>& found, uint64_t zombies);
  struct FoundChunks {
    std::shared_ptr<Accounts> of;
    uint64_t chunks = 0, staged = 0;
  };
  // The same for chunks.
  void replace_chunks(const std::vector<FoundChunks>& found);

 private:
  void up(Account Accounts::*which, Accounts& of, uint64_t n);
  void down(Account Accounts::*which, Accounts& of, uint64_t n);
  void take(Account& account, uint64_t n);
  void replace(Account Accounts::*which, Accounts& of, uint64_t n);
  bool kernel_has(uint64_t bytes) const;

  const CacheDir& dir_;
  Meter& meter_;
  const CacheLimits limits_;
  Accounts total_;
  Account zombies_{"zombie bytes"};
  std::list<Reservation> reservations_;
  std::atomic<uint64_t> unwritten_{0};
  std::atomic<const char*> distrusted_{nullptr};
  mutable int64_t asked_fs_ns_ = 0, asked_memory_ns_ = 0;  // when the kernel said fs_, memory_; long ago at first
  mutable FsSpace fs_;
  mutable uint64_t memory_ = UINT64_MAX;
};

}  // namespace larder
