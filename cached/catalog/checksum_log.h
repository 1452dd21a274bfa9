// Checksums of a dataset's cache files: an append-only file "sums" in its folder. They outlive the daemon, so that a
// take-over can verify what it finds. Thread-safe.
//
// Record (32 bytes): object id, XXH3-64 of the file, XXH3-64 (seeded) of the 24 bytes before. A record whose check does
// not fit is as if it were not there; of several with one id the last counts. The file has whole pages, zeros after the
// last record. Records are written through a mapping of the last page, which a kill -9 leaves written as pwrite does
// and which costs no system call: one was a microsecond of the 60 that an object has. The page is allocated before: a
// full tmpfs is ENOSPC, no SIGBUS.
#pragma once
#include <memory>
#include <optional>
#include <vector>

#include "cached/base/charge.h"
#include "cached/base/fd.h"
#include "cached/base/mutex.h"
#include "larder/hash.h"

namespace larder {

struct SumRecord {
  ObjectId oid;
  uint64_t sum;
  uint64_t check;
};
static_assert(sizeof(SumRecord) == 32);

inline bool oid_less(const ObjectId& a, const ObjectId& b) {
  return a.hi != b.hi ? a.hi < b.hi : a.lo < b.lo;
}

// Records sorted by object id.
class Sums {
 public:
  explicit Sums(std::vector<SumRecord> records);
  std::optional<uint64_t> find(ObjectId oid) const;
  const std::vector<SumRecord>& records() const { return records_; }

 private:
  std::vector<SumRecord> records_;
};

class ChecksumLog {
 public:
  static Result<std::unique_ptr<ChecksumLog>> open(int folder, int tmp, Meter& meter);

  // Adds a record. ENOSPC: there is no room for another page.
  Status append(ObjectId oid, uint64_t sum);
  Result<Sums> load() const;
  // Keeps the records of these ids (sorted by oid_less) only.
  Status compact(const std::vector<ObjectId>& live);
  uint64_t records() const;

 private:
  ChecksumLog(int folder, int tmp, Meter& meter) : folder_(folder), tmp_(tmp), meter_(meter) {}
  Status open_file() EXCLUDES(mutex_);
  Result<std::vector<SumRecord>> read_records_locked() const REQUIRES(mutex_);
  Status find_end_locked() REQUIRES(mutex_);
  Status next_page_locked() REQUIRES(mutex_);

  const int folder_;
  const int tmp_;
  Meter& meter_;
  mutable Mutex mutex_;
  Charge charge_ GUARDED_BY(mutex_);
  Fd fd_ GUARDED_BY(mutex_);
  uint64_t bytes_ GUARDED_BY(mutex_) = 0;  // of records
  Mapping page_ GUARDED_BY(mutex_);  // where the next one goes; none: it begins a page, or nothing was written yet
};

}  // namespace larder
