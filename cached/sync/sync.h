// Makes one end of a sync like the other: two sorted listings are walked side by side, what is missing or differs is
// copied, and what SRC does not have is removed if that was asked for. Memory does not grow with the number of objects.
//
// Removal comes last, and only after SRC was listed to its end: a listing that failed, or that found nothing at all,
// removes nothing. One failure does not stop the others, except where all would fail (no space, target's listing).
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cached/sync/compare.h"
#include "cached/sync/copier.h"
#include "cached/sync/endpoint.h"
#include "cached/sync/filter.h"
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

// Called one at a time, from any thread. With dry_run, on_action tells what would be done.
struct SyncEvents {
  std::function<void(SyncAction, const std::string& key, uint64_t size)> on_action;
  std::function<void(const std::string& key, const Error&)> on_failure;  // key: empty for a whole end
};

struct SyncCounts {
  uint64_t found = 0;  // objects of SRC, without those that the filter excludes
  uint64_t planned = 0, planned_bytes = 0;
  uint64_t copied = 0, copied_bytes = 0;
  uint64_t moved_bytes = 0;    // also of objects that are not complete
  uint64_t resumed_bytes = 0;  // that an interrupted run had copied
  uint64_t unchanged = 0, removed = 0, excluded = 0, failed = 0;
  bool listed = false;  // both ends: planned is final but for what is yet to be compared
};

class Sync {
 public:
  Sync(Endpoint& source, Endpoint& target, SyncOptions options, SyncEvents events);
  // Blocks until all is done; counts().failed tells whether it is well.
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
  const SyncEvents events_;
  std::mutex events_mutex_;
  Counters counters_;
  std::atomic<bool> stopped_{false};
  bool source_listed_ = false;
  KeySpool extra_;
  std::mutex conflicts_mutex_;
  bool keep_conflicts_ = true;
  std::vector<ObjectInfo>
      conflicts_;  // a file is where a folder must be, or the other way round: again after the removal
  WorkQueue queue_;
  Copier copier_;
};

}  // namespace larder
