// kAdmin: JSON requests of the command line (docs/protocol.md). A separate thread answers ping and status, workers
// answer the rest, so that a long listing never delays a short question. Threads: handle() on the server's thread.
#pragma once
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "cached/base/thread_pool.h"
#include "cached/cache/scrubber.h"
#include "cached/fetch/object_fetcher.h"
#include "cached/namespace/datasets.h"
#include "cached/requests/warm_job.h"
#include "cached/server/server.h"

namespace larder {

inline constexpr const char* kVersion = "0.1.0";

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
  };
  explicit Admin(Parts parts);
  ~Admin();

  void handle(IncomingRequest request);
  void stop();
  // True while a long operation is under way: the daemon is not idle.
  bool busy() const { return running_.load() > 0; }

 private:
  struct Call;
  using Answer = Result<nlohmann::json>;
  using Op = Answer (Admin::*)(const Call&);
  struct OpEntry {
    Op op;
    bool privileged;
    bool quick;
  };

  static const OpEntry* find_op(const std::string& name);
  bool allowed(const Peer& peer) const;
  void run(const Call& call, const OpEntry& op);

  Answer ping(const Call& call);
  Answer status(const Call& call);
  Answer format(const Call& call);
  Answer nodes(const Call& call);
  Answer mount(const Call& call);
  Answer umount(const Call& call);
  Answer refresh(const Call& call);
  Answer warm(const Call& call);
  Answer unpin(const Call& call);
  Answer evict(const Call& call);
  Answer check(const Call& call);
  Answer shutdown(const Call& call);

  nlohmann::json mounts_status();
  nlohmann::json waiting_status();
  nlohmann::json store_status();
  Result<uint64_t> fetch_again(const CheckCounts& counts, const Call& call);
  Status pin(const std::vector<std::string>& paths, const Call& call);
  Answer run_warm(const std::shared_ptr<WarmJob>& job, const Call& call);
  Status check_mount(const Mount& mount, const std::string& path, CheckCounts& counts, const Call& call);

  Parts p_;
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  std::atomic<int> running_{0};
  std::atomic<bool> stopping_{false};
  ThreadPool quick_{1};
  ThreadPool long_{16};
};

}  // namespace larder
