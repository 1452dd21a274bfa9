// Lists sources: when somebody asks, when a store said that an object is not what the catalog says, when an interval
// has passed. What is listed is compared with the newest version and, if anything differs, committed to the metadata
// and made current.
//
// Each dataset has a line: one listing at a time. Whoever waited in it takes the result of a listing that began after
// he asked, instead of listing again. Thread-safe; calls block, but for soon().
#pragma once
#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cached/base/mutex.h"
#include "cached/base/thread_pool.h"
#include "cached/namespace/versions.h"

namespace larder {

class Refresher {
 public:
  using Clock = std::chrono::steady_clock;
  using Then = std::function<void(const Status&)>;
  struct Parts {
    const Config& config;
    Meta& meta;
    Definitions& definitions;
    Registry& registry;
    Versions& versions;
  };
  // The parts outlive it.
  explicit Refresher(Parts parts) : p_(parts) {}
  ~Refresher() { stop(); }

  // Starts to serve soon() and intervals.
  void start();
  // Cancels listings; who still waits gets ECANCELED.
  void stop();

  // `offline`: takes the stored version, which another node may have published, and lists nothing.
  Result<RefreshResult> refresh(const std::string& name, const Progress& progress, bool offline = false);
  // Makes sure that the dataset has a version in memory: lists if there is none or if `request` asks for it. A source
  // that cannot be reached leaves the stored version with a warning; one that refuses is an error. Offline it never
  // lists; without a stored version that is ENOENT.
  Status ensure_version(Dataset& dataset, const MountRequest& request, const Progress& progress,
                        std::vector<std::string>& warnings);
  // Another node may have published a version of a mounted dataset. EAGAIN: it is being listed; ask again later.
  Status follow(const std::string& name);
  // Publishes a mounted dataset's definition and its loaded catalog again, for metadata that was lost. ENOENT: it is
  // not mounted here. EEXIST: it has another source here.
  Result<VersionInfo> restore(const std::string& name, const std::string& source);
  // Lists again, soon, once for all who ask. `then` is called on another thread, or at once when stopping.
  void soon(std::shared_ptr<Dataset> dataset, Then then);

 private:
  // Of one dataset; kept for good.
  struct Line {
    Mutex mutex;                             // held over a listing and what is made of it
    StoreOptions options GUARDED_BY(mutex);  // that the dataset's store was opened with, those of the request alone
    std::optional<SourceMeaning> meaning GUARDED_BY(mutex);  // what its source meant then
    // The latest listing that was not cancelled: when it began, of which store.
    Clock::time_point began GUARDED_BY(mutex);
    std::shared_ptr<Store> store GUARDED_BY(mutex);
    std::optional<Result<RefreshResult>> result GUARDED_BY(mutex);
  };
  struct Wanted {
    std::shared_ptr<Dataset> dataset;
    std::vector<Then> then;
  };
  struct Listing {
    CatalogImage image;
    SkippedKeys skipped;
    ListedTwice twice;
    std::unique_ptr<VersionWriter> writer;
  };

  Result<RefreshResult> stored(Dataset& dataset);
  Line& line_of(const Dataset& dataset) EXCLUDES(mutex_);
  Status connect(Line& line, Dataset& dataset, const MountRequest& request) REQUIRES(line.mutex);
  Status same_meaning(Line& line, const Dataset& dataset, const SourceMeaning& wanted) const REQUIRES(line.mutex);
  Result<RefreshResult> list(Line& line, Dataset& dataset, Clock::time_point asked, const Progress& progress)
      REQUIRES(line.mutex);
  Result<RefreshResult> list_and_install(Dataset& dataset, Store& store, const Progress& progress);
  Result<Listing> list_source(Dataset& dataset, Store& store, const Progress& progress);
  Result<RefreshResult> commit(Dataset& dataset, Listing listing);
  void run_background() EXCLUDES(mutex_);
  void want_intervals() REQUIRES(mutex_);
  std::optional<Wanted> take_due() REQUIRES(mutex_);
  void list_again(const Wanted& wanted) EXCLUDES(mutex_);

  const Parts p_;
  Mutex mutex_;  // held for moments
  CondVar wake_;
  std::map<uint64_t, std::unique_ptr<Line>> lines_ GUARDED_BY(mutex_);
  std::map<uint64_t, Wanted> wanted_ GUARDED_BY(mutex_);
  std::map<uint64_t, Clock::time_point> not_before_ GUARDED_BY(mutex_);
  std::map<uint64_t, Clock::time_point> next_refresh_ GUARDED_BY(mutex_);  // of datasets with a refresh_interval
  std::thread background_;
  // One listing a dataset at a time, each on a thread of its own: a source that hangs keeps no other from being listed.
  static constexpr size_t kMostListings = 1024;
  ThreadPool listers_{kMostListings};
  std::atomic<bool> stopping_{false};
};

}  // namespace larder
