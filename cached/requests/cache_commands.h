// Commands on what is cached: `warm`, `unpin`, `evict`, `check` (docs/protocol.md). They read stores and the cache's
// files: on worker threads. Thread-safe.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "cached/cache/scrubber.h"
#include "cached/fetch/object_fetcher.h"
#include "cached/namespace/datasets.h"
#include "cached/requests/admin_call.h"
#include "cached/requests/warm_jobs.h"

namespace larder {

class CacheCommands {
 public:
  struct Parts {
    const Config& config;
    ObjectCache& cache;
    Datasets& datasets;
    ObjectFetcher& flights;
    WarmJobs& warm_jobs;
  };
  // The parts outlive it.
  explicit CacheCommands(Parts parts) : p_(parts) {}

  // Anybody may warm what he may read. With "pin", which takes room from others for good, he must be allowed to
  // administer.
  // Without "wait" it returns the job's number at once.
  AdminAnswer warm(const AdminCall& call);
  // Anybody may end his own.
  AdminAnswer warm_stop(const AdminCall& call);
  AdminAnswer unpin(const AdminCall& call);
  AdminAnswer evict(const AdminCall& call);
  AdminAnswer check(const AdminCall& call);

 private:
  // A file or folder of a mounted dataset.
  struct Place {
    Mount mount;
    std::shared_ptr<CatalogVersion> version;
    std::string rest;  // below the mount
    uint32_t entry = kNoEntry;
  };

  Result<Place> place_of(const std::string& path) const;
  Result<std::vector<Place>> to_check(const std::string& path) const;
  Status pin(const std::vector<std::string>& paths, const AdminCall& call);
  WarmCounts run(const std::shared_ptr<WarmJob>& job, const AdminCall& call);
  Status check_place(const Place& place, CheckCounts& counts, const AdminCall& call);
  uint64_t fetch_again(const CheckCounts& counts, const AdminCall& call);

  const Parts p_;
};

}  // namespace larder
