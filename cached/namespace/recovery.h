// The start: takes over what is in the cache directory, mounts what the state and the configuration say, and goes on
// trying what could not be mounted.
//
// A mount of the configuration that fails, for whatever reason, waits with its trouble (in status and in the log) while
// the others are served. Thread-safe.
#pragma once
#include <string>
#include <thread>
#include <vector>

#include "cached/base/mutex.h"
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

  // Blocks until every mount was tried once. An error: the list of mounts or the metadata is damaged.
  Status start();
  void stop();

 private:
  Status take_over_folders();
  void mount_stored(const std::vector<StoredMount>& stored);
  void mount_configured();
  bool try_mount(const MountRequest& request);
  void run_background() EXCLUDES(mutex_);

  const Parts p_;
  Mutex mutex_;  // held for moments
  CondVar wake_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread background_;
};

}  // namespace larder
