// Which datasets there are and where they are mounted.
//
// Readers take an immutable snapshot under a lock that is held for the copy of a pointer: they never wait for a
// publication, a system call or a listing. Changes are made one at a time: a change works on a copy, publishes what
// programs see (control), saves the list of mounts and then becomes the snapshot. Thread-safe; changes block, and are
// meant for worker threads. Lock order: changing_, then those of ObjectCache and ControlWriter, then current_lock_.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cached/base/mutex.h"
#include "cached/cache/object_cache.h"
#include "cached/catalog/control_writer.h"
#include "cached/fetch/background_fill.h"
#include "cached/namespace/mount.h"
#include "cached/namespace/mount_list.h"

namespace larder {

class Registry {
 public:
  struct Parts {
    const Config& config;
    CacheDir& dir;
    ControlWriter& publisher;
    InodeTableWriter& inodes;
    ObjectCache& cache;
    BackgroundFill& filler;
    Meter& meter;
  };
  // The parts outlive the registry.
  explicit Registry(Parts parts);

  // ---- readers
  std::shared_ptr<Dataset> find(uint64_t id) const;
  std::vector<Mount> mounts() const;
  std::vector<std::shared_ptr<Dataset>> all() const;
  // The mount an absolute path is in, and the rest of the path; null dataset if none.
  std::pair<Mount, std::string> at_path(const std::string& path) const;
  // The mounted dataset of that name, with a version; null if there is none.
  std::shared_ptr<Dataset> mounted(const std::string& name) const;
  std::vector<WaitingMount> waiting() const;

  // ---- changes
  // The dataset in memory, with its folder; known to the cache.
  Result<std::shared_ptr<Dataset>> open(const DatasetDef& def) EXCLUDES(changing_);
  // Forgets a dataset that was never mounted, with its folder if that is empty.
  void forget(const std::shared_ptr<Dataset>& dataset) EXCLUDES(changing_);
  // EEXIST: the path has another dataset. ENOSPC: too many mounts. ESTALE: the dataset was unmounted or forgotten
  // meanwhile.
  Status add_mount(const MountRequest& request, const std::shared_ptr<Dataset>& dataset) EXCLUDES(changing_);
  // ENOENT: nothing is mounted there, and nothing waits to be.
  Status remove_mount(const std::string& path) EXCLUDES(changing_);
  // Forgets the mounts that are not to be kept.
  Status forget_transient() EXCLUDES(changing_);
  // An unmounted dataset's version goes. True if the dataset is not mounted.
  bool drop_unused(Dataset& dataset) EXCLUDES(changing_);
  // `next` replaces `before`, and programs are told. Returns the version that was current; null: the dataset was
  // unmounted or has another version by now, and nothing has changed.
  Result<std::shared_ptr<CatalogVersion>> switch_version(Dataset& dataset,
                                                         const std::shared_ptr<CatalogVersion>& before,
                                                         const std::shared_ptr<CatalogVersion>& next,
                                                         const std::vector<ObjectCache::Match>& matches)
      EXCLUDES(changing_);
  // Control says what is mounted, also if that is nothing.
  Status publish() EXCLUDES(changing_);
  // A mount to be tried again; replaces what waits for the same path.
  void add_waiting(WaitingMount mount) EXCLUDES(changing_);
  void remove_waiting(const std::string& path) EXCLUDES(changing_);
  Result<std::vector<StoredMount>> load_list() const { return list_.load(); }

 private:
  struct Snapshot {
    std::map<uint64_t, std::shared_ptr<Dataset>> datasets;
    std::vector<Mount> mounts;
    std::vector<WaitingMount> waiting;
  };

  std::shared_ptr<const Snapshot> snapshot() const EXCLUDES(current_lock_);
  void replace(Snapshot next) REQUIRES(changing_) EXCLUDES(current_lock_);
  Status put_mount(Snapshot& next, const MountRequest& request, const std::shared_ptr<Dataset>& dataset) const;
  Status publish(const Snapshot& snapshot) REQUIRES(changing_);
  Status save(const Snapshot& snapshot) REQUIRES(changing_);

  const Parts p_;
  const MountList list_;
  Mutex changing_;  // one change at a time; held over publications and work on folders
  mutable Mutex current_lock_ ACQUIRED_AFTER(changing_);  // held for the copy of a pointer
  std::shared_ptr<const Snapshot> current_ GUARDED_BY(current_lock_);
};

}  // namespace larder
