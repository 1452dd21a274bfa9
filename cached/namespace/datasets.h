// Which datasets there are, where they are mounted, and what is in them: the parts of the namespace put together.
//
// registry.h knows, mounter.h mounts, refresher.h lists, versions.h loads and installs, definitions.h defines,
// recovery.h starts. Thread-safe. find(), mounts(), all(), at_path() and refresh_soon() return at once, whatever else
// goes on; the rest blocks and is meant for worker threads.
#pragma once
#include "cached/namespace/definitions.h"
#include "cached/namespace/mounter.h"
#include "cached/namespace/recovery.h"
#include "cached/namespace/refresher.h"
#include "cached/namespace/registry.h"
#include "cached/namespace/versions.h"

namespace larder {

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
  // The parts outlive it.
  explicit Datasets(const Parts& p)
      : definitions_(p.config, p.dir, p.meta, p.open_store),
        registry_({p.config, p.dir, p.publisher, p.inodes, p.cache, p.filler, p.meter}),
        versions_({p.dir, p.cache, p.meta, p.meter, definitions_, registry_}),
        refresher_({p.config, p.meta, definitions_, registry_, versions_}),
        mounter_({p.cache, definitions_, registry_, refresher_}),
        recovery_({p.config, p.dir, p.publisher, p.inodes, p.cache, definitions_, registry_, mounter_}) {}

  // Takes over what is in the cache directory, mounts what the state and the configuration say.
  Status start() {
    Status s = recovery_.start();
    if (s) refresher_.start();
    return s;
  }
  void stop() {
    refresher_.stop();
    recovery_.stop();
  }

  Result<DatasetDef> format(const std::string& name, const std::string& source, const StoreOptions& options,
                            const std::string& group) {
    return definitions_.format(name, source, options, group);
  }
  Result<MountResult> mount(const MountRequest& r, const Progress& progress) { return mounter_.mount(r, progress); }
  Status umount(const std::string& path) { return mounter_.umount(path); }
  Result<RefreshResult> refresh(const std::string& name, const Progress& progress, bool offline = false) {
    return refresher_.refresh(name, progress, offline);
  }
  Status follow(const std::string& name) { return refresher_.follow(name); }
  Result<VersionInfo> restore(const std::string& name, const std::string& source) {
    return refresher_.restore(name, source);
  }
  // Forgets the mounts that are not to be kept (an orderly end of a private daemon).
  Status forget_transient_mounts() { return registry_.forget_transient(); }
  // A store said that an object is not what the catalog says: lists again, soon, once for all who ask.
  void refresh_soon(std::shared_ptr<Dataset> dataset, Refresher::Then then) {
    refresher_.soon(std::move(dataset), std::move(then));
  }

  std::shared_ptr<Dataset> find(uint64_t id) const { return registry_.find(id); }
  std::vector<Mount> mounts() const { return registry_.mounts(); }
  std::vector<std::shared_ptr<Dataset>> all() const { return registry_.all(); }
  std::pair<Mount, std::string> at_path(const std::string& path) const { return registry_.at_path(path); }
  std::vector<WaitingMount> waiting() const { return registry_.waiting(); }

 private:
  Definitions definitions_;
  Registry registry_;
  Versions versions_;
  Refresher refresher_;
  Mounter mounter_;
  Recovery recovery_;
};

}  // namespace larder
