// What programs see of the whole: the control file (mounts, generation), the namespace catalog, the stats memory.
// Thread-safe. The order of a publication: namespace catalog into place, control under the seqlock, old ones unlinked.
// Readers (hello(), namespace_catalog()) never wait for a system call.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cached/base/mutex.h"
#include "cached/catalog/cache_dir.h"
#include "cached/catalog/catalog_version.h"
#include "larder/shm.h"

namespace larder {

struct MountView {
  std::string path;
  std::shared_ptr<CatalogVersion> version;
  uint64_t dataset_id = 0;
  Fallback fallback = Fallback::kWait;
  std::optional<gid_t> group;  // only its members may read
};

// A consistent look at what a greeting hands out.
struct HelloView {
  uint64_t generation = 0;
  std::vector<MountView> mounts;  // in the order of control
};

struct StatTotals {
  uint64_t warm_opens = 0, warm_bytes = 0, miss_opens = 0, stats = 0, lists = 0, errors = 0;
};

class ControlWriter {
 public:
  // Marks the take-over: epoch + 1, generation moves, an interrupted publication is ended.
  static Result<std::unique_ptr<ControlWriter>> start(CacheDir& dir, uint32_t wait_ms, Meter& meter);

  // Called after every publication, by the thread that published, with none of this class's locks held. Set it before
  // other threads publish.
  void on_publish(std::function<void()> tell) { tell_ = std::move(tell); }

  Status publish_mounts(std::vector<MountView> mounts);
  void publish_inode_table(uint64_t id);

  HelloView hello() const;
  std::string control_bytes() const;  // a copy of control at an even generation
  uint64_t generation() const { return dir_.control()->generation.load(std::memory_order_acquire); }
  uint64_t instance() const { return dir_.control()->instance; }
  const Fd& stats_fd() const { return stats_; }
  StatTotals stats() const;
  std::shared_ptr<const Mapping> namespace_catalog() const;  // null: no mounts

 private:
  ControlWriter(CacheDir& dir, Meter& meter) : dir_(dir), meter_(meter) {}
  Status init(uint32_t wait_ms);
  Status publish_sorted(std::vector<MountView> mounts) EXCLUDES(publishing_);
  void begin_locked() REQUIRES(view_);
  void end_locked() REQUIRES(view_);
  Result<uint64_t> write_namespace_locked(const std::vector<MountView>& mounts) REQUIRES(publishing_);
  void publish(std::vector<MountView> mounts, uint64_t names) EXCLUDES(view_);
  void remove_old_namespaces(uint64_t current);

  CacheDir& dir_;
  Meter& meter_;
  std::function<void()> tell_;
  Fd stats_;
  Mapping stats_map_;
  Mutex publishing_;  // one publication at a time; held over system calls
  Charge charge_ GUARDED_BY(publishing_);
  bool published_ GUARDED_BY(publishing_) = false;
  mutable Mutex view_ ACQUIRED_AFTER(publishing_);  // held over memory alone, the seqlock's writes too
  std::vector<MountView> mounts_ GUARDED_BY(view_);
  std::shared_ptr<const Mapping> namespace_ GUARDED_BY(view_);
};

}  // namespace larder
