// What the daemon tells of itself: `ping` and `status` (docs/protocol.md). Thread-safe; reads counters and snapshots,
// so it never waits for a store or for the metadata.
#pragma once
#include <chrono>

#include "cached/fetch/object_fetcher.h"
#include "cached/namespace/datasets.h"
#include "cached/requests/admin_call.h"
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
  };
  // The parts outlive it. Uptime counts from here.
  explicit StatusCommands(Parts parts) : p_(parts) {}

  AdminAnswer ping(const AdminCall& call);
  AdminAnswer status(const AdminCall& call);

 private:
  nlohmann::json cache() const;
  nlohmann::json reads() const;
  nlohmann::json store() const;
  nlohmann::json mount(const Mount& mount, const CatalogVersion& version) const;
  nlohmann::json mounts() const;
  nlohmann::json waiting_mounts() const;
  nlohmann::json datasets() const;

  const Parts p_;
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

}  // namespace larder
