// The command line's requests (kAdmin, JSON: docs/protocol.md): which commands there are, and which file answers them.
// Threads: see dispatcher.h.
#pragma once
#include "cached/requests/cache_commands.h"
#include "cached/requests/dataset_commands.h"
#include "cached/requests/dispatcher.h"
#include "cached/requests/runs.h"
#include "cached/requests/status.h"
#include "cached/requests/warm_jobs.h"
#include "cached/server/server.h"

namespace larder {

class Admin {
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
    Meta& meta;
    const Histogram& miss_waits;
    KeeperLink* keeper;  // or null
  };
  // The parts outlive it.
  explicit Admin(Parts parts);

  // On the server's thread.
  void handle(IncomingRequest request) { dispatcher_.handle(std::move(request)); }
  // Cancels what runs and waits for it.
  void stop() {
    warm_jobs_.stop();
    dispatcher_.stop();
  }
  // The status as anybody may see it, without restricted datasets.
  nlohmann::json public_status() const {
    return status_.report([](std::optional<gid_t> group) { return !group; }, false, std::nullopt);
  }
  // True while a long operation is under way, or a command of `larder run` lives: the daemon is not idle.
  bool busy() { return dispatcher_.busy() || warm_jobs_.busy() || runs_.alive(); }

 private:
  std::map<std::string, AdminCommand> commands();

  const Config& config_;
  const CacheDir& dir_;
  Server& server_;
  KeeperLink* const keeper_;
  Runs runs_;
  WarmJobs warm_jobs_;
  StatusCommands status_;
  DatasetCommands datasets_;
  CacheCommands cache_;
  Dispatcher dispatcher_;  // goes first: its threads use the others
};

}  // namespace larder
