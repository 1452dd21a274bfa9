// Mounts and unmounts. Thread-safe; mount() may list a source, and blocks.
#pragma once
#include <string>

#include "cached/namespace/refresher.h"

namespace larder {

class Mounter {
 public:
  struct Parts {
    ObjectCache& cache;
    Definitions& definitions;
    Registry& registry;
    Refresher& refresher;
  };
  // The parts outlive it.
  explicit Mounter(Parts parts) : p_(parts) {}

  // A mount that fails leaves nothing behind. EEXIST: the path has another source; EINVAL: the request cannot be right;
  // otherwise what the metadata or the store answered.
  Result<MountResult> mount(const MountRequest& request, const Progress& progress);
  Status umount(const std::string& path);

 private:
  bool same_endpoint(const DatasetDef& def, const StoreOptions& options) const;
  Status use_mounted(MountRequest& request) const;
  Result<std::shared_ptr<Dataset>> dataset_for(const MountRequest& request, bool* registered);
  Status try_mount(const std::shared_ptr<Dataset>& dataset, const MountRequest& request, const Progress& progress,
                   MountResult& result);

  const Parts p_;
};

}  // namespace larder
