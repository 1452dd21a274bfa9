// Whether an object or chunk may come into the cache, and as what (the policies are told in object_cache.h).
// Not thread-safe: guarded by ObjectCache's lock.
#pragma once
#include "cached/cache/eviction.h"

namespace larder {

class Admission {
 public:
  enum class Kind { kKept, kStaged };
  Admission(Budget& budget, Eviction& eviction) : budget_(budget), eviction_(eviction) {}

  // Makes room for `need` bytes of a whole file, or of one chunk. `demand`: a program waits.
  // EFBIG: more than the cache or the quota; EAGAIN: nothing can go now (demand); ENOSPC: no room for background work.
  Result<Kind> find_room(DatasetRecord& record, const std::string& path, uint64_t need, bool demand, bool chunk);

 private:
  bool make_room(DatasetRecord& record, uint64_t need, bool stays, bool chunk);
  Error too_large(const Dataset& dataset, uint64_t need) const;

  Budget& budget_;
  Eviction& eviction_;
};

}  // namespace larder
