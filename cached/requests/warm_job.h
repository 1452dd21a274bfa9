// `larder warm`: fetches everything below some paths, as background work, and counts. Thread-safe; its lock is taken
// after ObjectFetcher's.
#pragma once
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cached/base/mutex.h"
#include "cached/fetch/work_source.h"

namespace larder {

struct WarmCounts {
  uint64_t files = 0, bytes = 0;  // asked for
  uint64_t done = 0, done_bytes = 0;
  uint64_t fetched = 0, already = 0, failed = 0;
  std::vector<std::pair<std::string, std::string>> errors;  // path, message: the first 20
};

class WarmJob : public WorkSource {
 public:
  explicit WarmJob(uint32_t jobs) : jobs_(jobs) {}

  // A file, or a folder with all below it. `mount_path` is for messages. Before the job is given to ObjectFetcher.
  void add(std::shared_ptr<Dataset> dataset, std::shared_ptr<CatalogVersion> version, uint32_t entry,
           std::string mount_path);

  std::optional<Object> next(const MayFetch& may_fetch) override;
  void finished(const Object& object, const Status& status) override;

  // Waits until all is done or the time is over; returns the counts and whether all is done.
  std::pair<WarmCounts, bool> wait(std::chrono::milliseconds time);
  // Gives nothing more out.
  void cancel();

 private:
  bool is_done_locked() const REQUIRES(mutex_) { return at_ >= items_.size() && in_flight_ == 0; }

  struct Item {
    uint32_t target;
    uint32_t entry;
  };
  struct Target {
    std::shared_ptr<Dataset> dataset;
    std::shared_ptr<CatalogVersion> version;
    std::string mount_path;
  };

  const uint32_t jobs_;
  Mutex mutex_;
  CondVar changed_;
  std::vector<Target> targets_ GUARDED_BY(mutex_);
  std::vector<Item> items_ GUARDED_BY(mutex_);
  size_t at_ GUARDED_BY(mutex_) = 0;  // the next of items_
  uint32_t in_flight_ GUARDED_BY(mutex_) = 0;
  WarmCounts counts_ GUARDED_BY(mutex_);
};

}  // namespace larder
