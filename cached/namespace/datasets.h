// Which datasets there are, where they are mounted, and what is in them: registers, mounts, lists, publishes.
//
// A version reaches programs so: the store is listed into a catalog and, entry by entry, into the metadata; if anything
// differs from the current version the metadata commits it; the catalog goes into the dataset's folder; residency is
// carried over for objects that are the same; control names the new version; then the old one's files go. Thread-safe;
// the long operations block and are meant for worker threads.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "cached/cache/object_cache.h"
#include "cached/catalog/control_writer.h"
#include "cached/catalog/dataset.h"
#include "cached/config/config.h"
#include "cached/fetch/background_fill.h"
#include "cached/namespace/definition_copies.h"
#include "cached/namespace/mount_list.h"

namespace larder {

using StoreOpener = std::function<Result<std::unique_ptr<Store>>(std::string_view source, const StoreOptions& options)>;

struct Mount {
  std::string path;
  std::shared_ptr<Dataset> dataset;
  Fallback fallback = Fallback::kWait;
  bool persist = true;
  bool from_config = false;
};

// How far a long operation is. cancelled() is asked now and then.
struct Progress {
  std::function<void(uint64_t done, uint64_t total, uint64_t bytes, uint64_t total_bytes, uint64_t failed)> report;
  std::function<bool()> cancelled;
};

struct MountRequest {
  std::string path;
  std::string name;      // of a registered dataset, or
  std::string source;    // a source, registered under a name made from it
  StoreOptions options;  // of the source
  Fallback fallback = Fallback::kWait;
  std::optional<Fill> fill;
  std::optional<Policy> policy;
  std::optional<uint64_t> quota;  // bytes; 0: none
  bool refresh = false;
  bool persist = true;
  bool from_config = false;
};

struct MountResult {
  std::string name, path;
  VersionInfo info;
  std::vector<std::string> warnings;
};

struct RefreshResult {
  VersionInfo info;
  uint64_t added = 0, changed = 0, removed = 0;
  SkippedKeys skipped;
};

class Datasets {
 public:
  struct Parts {
    const Config& config;
    CacheDir& dir;
    ControlWriter& publisher;
    InodeTableWriter& inodes;
    ObjectCache& cache;
    BackgroundFill& filler;
    Meta& meta;
    Meter& meter;
    StoreOpener open_store;
  };
  explicit Datasets(Parts parts);
  ~Datasets();

  // Takes over what is in the cache directory, mounts what the state and the configuration say. A mount whose store
  // cannot be reached now is tried again later; what cannot work (unknown bucket, wrong key, bad URL) in the
  // configuration is an error.
  Status start();
  void stop();

  Result<DatasetDef> format(const std::string& name, const std::string& source, const StoreOptions& options,
                            const std::string& group);
  // EEXIST: the path has another source.
  Result<MountResult> mount(const MountRequest& request, const Progress& progress);
  Status umount(const std::string& path);
  Result<RefreshResult> refresh(const std::string& name, const Progress& progress);
  // Another node may have published: a newer version of a mounted dataset reaches programs. An older or absent one
  // never does.
  Status follow(const std::string& name);
  // Publishes a mounted dataset's definition and its loaded catalog again, for metadata that was lost. ENOENT: it is
  // not mounted here.
  Result<VersionInfo> restore(const std::string& name, const std::string& source);
  // Forgets the mounts that are not to be kept (an orderly end of a private daemon).
  Status forget_transient_mounts();

  // A store said that an object is not what the catalog says: lists again, soon, once for all who ask.
  void refresh_soon(std::shared_ptr<Dataset> dataset, std::function<void(const Status&)> then);

  std::shared_ptr<Dataset> find(uint64_t id) const;
  std::vector<Mount> mounts() const;
  std::vector<std::shared_ptr<Dataset>> all() const;
  // The mount an absolute path is in, and the rest of the path; null dataset if none.
  std::pair<Mount, std::string> at_path(const std::string& path) const;

 private:
  struct Listing {
    CatalogImage image;
    SkippedKeys skipped;
    std::unique_ptr<VersionWriter> writer;
  };
  struct Pending {
    std::shared_ptr<Dataset> dataset;
    std::vector<std::function<void(const Status&)>> then;
  };

  Result<std::shared_ptr<Dataset>> dataset_for(const MountRequest& request, bool* registered);
  Result<std::optional<DatasetDef>> definition(const std::string& name);
  Result<DatasetDef> copy_of(const std::string& name) const;
  Result<std::shared_ptr<Dataset>> open_dataset(const DatasetDef& def);
  Result<std::shared_ptr<Store>> store_for(const DatasetDef& def, const StoreOptions& request_options);
  void discard(const std::shared_ptr<Dataset>& dataset);
  Status load_stored(Dataset& dataset, bool* found);
  Status load_current(Dataset& dataset, bool* found);
  Status load_copy(Dataset& dataset, const Error& why);
  Result<std::shared_ptr<CatalogVersion>> stored_version(Dataset& dataset, const VersionInfo& info);
  Result<CatalogImage> build_stored(Dataset& dataset, const VersionInfo& info);
  Result<std::shared_ptr<CatalogVersion>> create_version(Dataset& dataset, CatalogImage&& image);
  Result<Listing> list_source(Dataset& dataset, const Progress& progress);
  Result<RefreshResult> list_and_install(Dataset& dataset, const Progress& progress);
  Status install(Dataset& dataset, CatalogImage&& image);
  Status catch_up(Dataset& dataset);
  std::shared_ptr<Dataset> mounted(const std::string& name) const;
  Status ready(const std::shared_ptr<Dataset>& dataset, const MountRequest& request, const Progress& progress,
               MountResult& result);
  Status use_mounted(MountRequest& request) const;
  Status add_mount(const MountRequest& request, const std::shared_ptr<Dataset>& dataset);
  Status publish_locked();
  Status save_locked();
  void remove_old_versions(Dataset& dataset, uint64_t current);
  void log_skipped(const Dataset& dataset, const SkippedKeys& skipped);

  Status take_over_folders();
  Status mount_stored(const std::vector<StoredMount>& stored);
  Status mount_configured();
  void run_background();
  void retry_mounts();
  void want_refreshes_locked();

  Parts p_;
  MountList list_;
  DefinitionCopies copies_;
  mutable std::mutex mutex_;  // datasets_, mounts_, pending_; held for publications, not for listings
  std::map<uint64_t, std::shared_ptr<Dataset>> datasets_;
  std::vector<Mount> mounts_;
  std::vector<MountRequest> retry_;  // mounts whose store could not be reached
  std::map<uint64_t, Pending> wanted_;
  std::map<uint64_t, std::chrono::steady_clock::time_point> not_before_;
  std::map<uint64_t, std::chrono::steady_clock::time_point> next_refresh_;  // of datasets with a refresh_interval
  std::condition_variable wake_;
  std::thread background_;
  std::atomic<bool> stopping_{false};
};

// Name of the dataset of a source that was never registered: readable, and different for different sources and
// endpoints.
std::string name_for_source(const std::string& source, const StoreOptions& options);

// Options without what must never be stored.
StoreOptions without_secrets(StoreOptions options);

}  // namespace larder
