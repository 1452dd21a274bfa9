// Makes one end of a sync like the other: it walks two sorted listings side by side, copies what is missing or differs,
// and removes what SRC does not have if that was asked for. Memory does not grow with the number of objects.
//
// Removal comes last, and only if SRC was listed to its end: after a listing that failed or found nothing, it removes
// nothing. A failure does not stop the other objects, unless all would fail (no space, the target cannot be listed).
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cached/base/mutex.h"
#include "cached/store/api/filter.h"
#include "cached/sync/compare.h"
#include "cached/sync/copier.h"
#include "cached/sync/endpoint.h"
#include "cached/sync/key_spool.h"
#include "cached/sync/work_queue.h"

namespace larder {

struct SyncOptions {
  Compare compare = Compare::kSizeAndTime;
  bool remove = false;
  bool remove_all = false;  // also when SRC is empty
  bool dry_run = false;
  Filter filter;
  int jobs = 32;
  uint64_t bytes_per_second = 0;  // 0: no limit
  std::string state_directory;    // upload_state.h
};

enum class SyncAction { kCopy, kRemove };

// Called one at a time, from any thread. With dry_run, on_action receives what would be done.
struct SyncEvents {
  std::function<void(SyncAction, const std::string& key, uint64_t size)> on_action;
  std::function<void(const std::string& key, const Error&)> on_failure;  // key: empty for a whole end
};

struct SyncCounts {
  uint64_t found = 0;  // objects of SRC that the filter includes
  uint64_t planned = 0, planned_bytes = 0;
  uint64_t copied = 0, copied_bytes = 0;
  uint64_t moved_bytes = 0;    // including those of incomplete objects
  uint64_t resumed_bytes = 0;  // copied by an interrupted run
  uint64_t unchanged = 0, removed = 0, excluded = 0, failed = 0;
  bool listed = false;  // both ends are listed: `planned` only grows by contents that are still being compared
};

class Sync {
 public:
  Sync(Endpoint& source, Endpoint& target, SyncOptions options, SyncEvents events);
  // Blocks until everything is done. counts().failed is 0 if all went well.
  void run();
  SyncCounts counts() const;  // any thread

 private:
  struct Counters {
    std::atomic<uint64_t> found{0}, planned{0}, planned_bytes{0}, copied{0}, copied_bytes{0}, unchanged{0}, removed{0},
        excluded{0}, failed{0};
    std::atomic<bool> listed{false};
  };

  void plan();
  void only_in_source(ObjectInfo&& object);
  void only_in_target(const ObjectInfo& object);
  void in_both(ObjectInfo&& source, ObjectInfo&& target);
  bool is_same(const ObjectInfo& source, const ObjectInfo& target) const;
  void compare_content(const ObjectInfo& source, const ObjectInfo& target);
  void schedule_copy(ObjectInfo&& object);
  void copy(const ObjectInfo& object);
  void copied(const ObjectInfo& object, const Status& status);
  void remove_extra();
  void remove_keys(const std::vector<std::string>& keys);
  void copy_conflicts();
  void act(SyncAction action, const std::string& key, uint64_t size);
  void fail(const std::string& key, const Error& error);
  void stop(const Error& error);
  bool stopped() const { return stopped_.load(); }

  Endpoint& source_;
  Endpoint& target_;
  const SyncOptions options_;
  Mutex events_mutex_;  // held while an event runs: they are called one at a time
  const SyncEvents events_ GUARDED_BY(events_mutex_);
  Counters counters_;
  std::atomic<bool> stopped_{false};
  bool source_listed_ = false;
  KeySpool extra_;
  Mutex conflicts_mutex_;
  bool keep_conflicts_ GUARDED_BY(conflicts_mutex_) = true;
  // A file in the place of a folder, or a folder in the place of a file: copied again after the removal.
  std::vector<ObjectInfo> conflicts_ GUARDED_BY(conflicts_mutex_);
  WorkQueue queue_;
  Copier copier_;
};

}  // namespace larder
