// Background fill: the first miss in a dataset starts to fetch the rest of it (fill = eager: the folder that is being
// read, then the listing; siblings: the folder only; off). It stops when the cache is full, goes on when there is room
// again, and never fetches what is in the cache or on its way. Thread-safe; its lock is taken after ObjectFetcher's and
// before ObjectCache's.
#pragma once
#include <chrono>
#include <deque>
#include <map>
#include <string>

#include "cached/base/mutex.h"
#include "cached/cache/object_cache.h"
#include "cached/fetch/work_source.h"

namespace larder {

class BackgroundFill : public WorkSource {
 public:
  explicit BackgroundFill(ObjectCache& cache) : cache_(cache) {}

  // A program missed this entry of the current version.
  void missed(const std::shared_ptr<Dataset>& dataset, const CatalogVersion& version, uint32_t entry) EXCLUDES(mutex_);
  // A former daemon was filling it: goes on, without waiting for a miss.
  void resume(const std::shared_ptr<Dataset>& dataset) EXCLUDES(mutex_);
  void stop(const Dataset& dataset) EXCLUDES(mutex_);
  // Goes on where the cache was full or the store failed. Call once a second; kick the flights afterwards.
  void tick() EXCLUDES(mutex_);
  // "off", "running", "done" or "paused".
  std::string state(const Dataset& dataset) const EXCLUDES(mutex_);

  std::optional<Object> next(const MayFetch& may_fetch) override EXCLUDES(mutex_);
  void finished(const Object& object, const Status& status) override EXCLUDES(mutex_);

 private:
  using Clock = std::chrono::steady_clock;
  struct Folder {
    uint32_t entry;
    uint32_t next_child;
  };
  struct Fill {
    std::shared_ptr<Dataset> dataset;
    uint64_t version = 0;
    std::deque<Folder> folders;  // most recently missed first
    uint32_t cursor = 0;
    bool started = false;
    bool paused = false;
    Clock::time_point resume_at{};
    uint64_t refused_size = 0;    // smallest object that did not fit; 0: all did
    int refused = 0, failed = 0;  // in a row
    int in_flight = 0;
  };

  static std::optional<Object> next_of(Fill& f);
  static std::optional<uint32_t> next_sibling(Fill& f, const CatalogVersion& v);
  static std::optional<uint32_t> next_listed(Fill& f, const CatalogVersion& v);
  static void follow_version(Fill& f, const CatalogVersion& v);
  static void push_folder(Fill& f, uint32_t folder);

  ObjectCache& cache_;
  mutable Mutex mutex_;
  std::map<uint64_t, Fill> fills_ GUARDED_BY(mutex_);  // by dataset id
  uint64_t last_served_ GUARDED_BY(mutex_) = 0;
};

}  // namespace larder
