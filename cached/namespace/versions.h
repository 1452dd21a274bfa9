// The versions of a dataset: found, built, made current.
//
// A version reaches programs so: the catalog goes into the dataset's folder; residency is carried over for objects that
// are the same; control names the new version; then the old one's files go. Calls block. One call at a time for a
// dataset: the caller holds the dataset's line (refresher.h).
#pragma once
#include <memory>
#include <optional>

#include "cached/namespace/definitions.h"
#include "cached/namespace/registry.h"

namespace larder {

class Versions {
 public:
  struct Parts {
    CacheDir& dir;
    ObjectCache& cache;
    Meta& meta;
    Meter& meter;
    Definitions& definitions;
    Registry& registry;
  };
  // The parts outlive it.
  explicit Versions(Parts parts) : p_(parts) {}

  // Makes a version present in memory: the metadata's current one, else what this node has. `found` is false if there
  // is none.
  Status load(Dataset& dataset, bool* found);
  // The stored version as a catalog.
  Result<CatalogImage> build(Dataset& dataset, const VersionInfo& info);
  // ENOSPC: a catalog of this size never fits into the cache, however it goes on.
  Status may_take(const Dataset& dataset, uint64_t bytes) const;
  // The new version of a mounted dataset reaches programs; nothing happens if it is not mounted by now.
  Status install(Dataset& dataset, CatalogImage&& image);
  // Another node may have published: a newer version of a mounted dataset reaches programs. An older or absent one
  // never does: numbers ascend and never come back, so metadata that was emptied or set back is not followed.
  Status catch_up(Dataset& dataset);
  // Removes the files of all other versions.
  static void remove_others(Dataset& dataset, uint64_t current);

 private:
  Status load_current(Dataset& dataset, bool* found);
  Status load_copy(Dataset& dataset, const Error& why);
  Result<std::shared_ptr<CatalogVersion>> open_or_build(Dataset& dataset, const VersionInfo& info);
  Result<std::shared_ptr<CatalogVersion>> create(Dataset& dataset, CatalogImage&& image);

  const Parts p_;
};

}  // namespace larder
