// The start: takes over what is in the cache directory, mounts what the state and the configuration say, and goes on
// trying what could not be mounted.
//
// A mount that fails, for whatever reason, waits with its trouble (in status and in the log) while the others are
// served. Each is tried on a thread of its own, so that a source that hangs keeps none of the others waiting.
// Thread-safe.
#pragma once
#include <chrono>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "cached/base/mutex.h"
#include "cached/base/thread_pool.h"
#include "cached/namespace/mounter.h"

namespace larder {

class Recovery {
 public:
  struct Parts {
    const Config& config;
    CacheDir& dir;
    ControlWriter& publisher;
    InodeTableWriter& inodes;
    ObjectCache& cache;
    Definitions& definitions;
    Registry& registry;
    Mounter& mounter;
  };
  // The parts outlive it.
  explicit Recovery(Parts parts) : p_(parts) {}
  ~Recovery() { stop(); }

  // Blocks until every mount was tried once, for kStartPatience at most: what needs longer is mounted when it is ready.
  // An error: the list of mounts or the metadata is damaged.
  Status start();
  void stop();

 private:
  Status take_over_folders();
  static constexpr std::chrono::seconds kStartPatience{10};  // a first listing of 100,000 objects takes as long
  std::vector<MountRequest> stored(const std::vector<StoredMount>& list) const;
  std::vector<MountRequest> configured() const;
  void try_mount(const MountRequest& request);
  // On a thread of its own, unless the path is being mounted already.
  void begin(const MountRequest& request) EXCLUDES(mutex_);
  void await_first_attempts() EXCLUDES(mutex_);
  void run_background() EXCLUDES(mutex_);

  const Parts p_;
  Mutex mutex_;  // held for moments
  CondVar wake_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::set<std::string> trying_ GUARDED_BY(mutex_);  // paths
  std::thread background_;
  static constexpr size_t kMostAttempts = 1024;
  ThreadPool attempts_{kMostAttempts};
};

}  // namespace larder
