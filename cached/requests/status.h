// What the daemon tells of itself: `ping` and `status` (docs/protocol.md). Thread-safe; reads counters and snapshots,
// so it never waits for a store or for the metadata.
#pragma once
#include <chrono>
#include <functional>
#include <optional>

#include "cached/base/histogram.h"
#include "cached/fetch/object_fetcher.h"
#include "cached/namespace/datasets.h"
#include "cached/requests/admin_call.h"
#include "cached/requests/warm_jobs.h"
#include "cached/server/server.h"

namespace larder {

class StatusCommands {
 public:
  struct Parts {
    const Config& config;
    CacheDir& dir;
    ControlWriter& publisher;
    ObjectCache& cache;
    Datasets& datasets;
    ObjectFetcher& flights;
    BackgroundFill& filler;
    Server& server;
    const Histogram& miss_waits;
    const WarmJobs& warm_jobs;
  };
  // The parts outlive it. Uptime counts from here.
  explicit StatusCommands(Parts parts) : p_(parts) {}

  AdminAnswer ping(const AdminCall& call);
  // Restricted datasets are shown to those who may read them.
  AdminAnswer status(const AdminCall& call);
  // The status for a viewer who may read the datasets for which `may_see` is true; the others count in the sums alone.
  // Who may read a dataset that waits for its mount is not known: only `all` shows more of it than the path.
  using MaySee = std::function<bool(std::optional<gid_t> group)>;
  nlohmann::json report(const MaySee& may_see, bool all, std::optional<uid_t> viewer) const;

 private:
  nlohmann::json home() const;
  nlohmann::json cache() const;
  nlohmann::json reads() const;
  nlohmann::json miss_waits() const;
  nlohmann::json store() const;
  nlohmann::json mount(const Mount& mount, const CatalogVersion& version) const;
  nlohmann::json mounts(const MaySee& may_see) const;
  nlohmann::json waiting_mounts(bool all) const;
  nlohmann::json datasets(const MaySee& may_see) const;

  nlohmann::json keeper() const;

  const Parts p_;
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

}  // namespace larder
