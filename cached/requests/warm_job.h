// `larder warm`: fetches everything below some paths, as background work, and counts. Thread-safe.
#pragma once
#include <condition_variable>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "cached/fetch/object_fetcher.h"

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

  std::optional<Object> next() override;
  void finished(const Object& object, const Status& status) override;

  // Waits until all is done or the time is over; returns the counts and whether all is done.
  std::pair<WarmCounts, bool> wait(std::chrono::milliseconds time);
  // Gives nothing more out.
  void cancel();

 private:
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
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Target> targets_;
  std::vector<Item> items_;
  size_t at_ = 0;
  uint32_t in_flight_ = 0;
  WarmCounts counts_;
};

}  // namespace larder
