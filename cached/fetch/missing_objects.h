// Objects that the catalog has and the store says are not there (404). Either they were deleted, which a listing tells,
// or the store lists keys that it cannot serve, and then a listing tells nothing, however often it is made.
// Thread-safe; its lock is a leaf.
#pragma once
#include <chrono>
#include <map>

#include "cached/base/mutex.h"
#include "cached/catalog/dataset.h"

namespace larder {

// Does the dataset's current version have this very object?
bool is_listed(const Object& object);

class MissingObjects {
 public:
  using Clock = std::chrono::steady_clock;
  // A listed object is not there. Shall its dataset be listed to find out? Yes, unless the last listing that was made
  // for this reason changed nothing and is not long ago: kPause at first, twice as long each time, at most kLongest.
  bool is_listing_due(const Dataset& dataset, Clock::time_point now) EXCLUDES(mutex_);

  static constexpr std::chrono::seconds kPause{30}, kLongest{3600};

 private:
  struct Asked {
    uint64_t version = 0;  // that was current then
    Clock::time_point next{};
    std::chrono::seconds pause = kPause;
  };
  Mutex mutex_;
  std::map<uint64_t, Asked> asked_ GUARDED_BY(mutex_);  // by dataset id
};

}  // namespace larder
