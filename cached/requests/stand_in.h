// What tells programs of the mounts while larderd itself does not answer: the keeper, if there is one, and the mounts
// file.
//
// The keeper hands out the greeting of a peer that belongs to no group. The mounts file (kMountsFileSuffix) lies beside
// the socket: a program that nobody answers knows by it which paths are in datasets, and waits for larderd instead of
// saying ENOENT. Its format is control's. Thread-safe.
#pragma once
#include <string>

#include "cached/base/mutex.h"
#include "cached/catalog/control_writer.h"
#include "cached/server/keeper_link.h"

namespace larder {

class StandIn {
 public:
  struct Parts {
    const CacheDir& dir;
    const ControlWriter& publisher;
    KeeperLink* keeper;  // or null
    std::string mounts_file;
    bool is_private;  // for the daemon's user alone
  };
  // The parts outlive it.
  explicit StandIn(Parts parts) : p_(std::move(parts)), null_(::open("/dev/null", O_RDONLY | O_CLOEXEC)) {}

  // After a publication: makes everything as new as control is now. What fails is logged, once.
  void update() EXCLUDES(mutex_);

 private:
  void store_greeting_locked() REQUIRES(mutex_);

  const Parts p_;
  const Fd null_;
  Mutex mutex_;  // held over the file and the message to the keeper, so that the newest is the last
  bool failed_ GUARDED_BY(mutex_) = false;
};

}  // namespace larder
