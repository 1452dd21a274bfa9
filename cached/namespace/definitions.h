// How datasets are defined: what the metadata says, or this node's copy while the metadata is away or has lost it; and
// how a definition's store is opened. Thread-safe; calls ask the metadata and block.
#pragma once
#include <memory>
#include <string>

#include "cached/catalog/cache_dir.h"
#include "cached/meta/meta.h"
#include "cached/namespace/definition_copies.h"
#include "cached/namespace/mount.h"
#include "cached/store/open/source_meaning.h"

namespace larder {

class Definitions {
 public:
  Definitions(const Config& config, const CacheDir& dir, Meta& meta, StoreOpener open_store);

  // Registers a dataset. EINVAL: no source, or options that no store can be opened with.
  Result<DatasetDef> format(const std::string& name, const std::string& source, const StoreOptions& options,
                            const std::string& group);
  Result<std::optional<DatasetDef>> find(const std::string& name);
  // All that the metadata knows; this node's copies if it cannot be reached.
  Result<std::vector<DatasetDef>> all();
  void remove(const std::string& name);
  bool has_copy(const std::string& name) const { return copies_.find(name).has_value(); }
  // The name for a source that is mounted without one.
  std::string name_for(const std::string& source, const StoreOptions& request_options) const;
  // What the definition means to this daemon now, with the configuration's options and those of a request.
  Result<SourceMeaning> meaning(const DatasetDef& def, const StoreOptions& request_options) const;
  // The same to who asks with `environment`. To a node's daemon, which has a configuration of its own, that counts for
  // the endpoint alone.
  Result<SourceMeaning> meaning_to(const std::map<std::string, std::string>& environment, const DatasetDef& def,
                                   const StoreOptions& request_options) const;
  // The definition's store, with the configuration's options and those of a request, which win.
  Result<std::shared_ptr<Store>> open_store(const DatasetDef& def, const StoreOptions& request_options) const;

 private:
  StoreOptions all_options(const DatasetDef& def, const StoreOptions& request_options) const;
  Result<DatasetDef> copy_of(const std::string& name) const;

  const Config& config_;
  const CacheDir& dir_;
  Meta& meta_;
  const StoreOpener open_store_;
  DefinitionCopies copies_;
};

// Name of the dataset of a source that was never registered: readable, and different for different sources and
// endpoints.
std::string name_for_source(const std::string& source, const StoreOptions& options);

// Options without what must never be stored.
StoreOptions without_secrets(StoreOptions options);

// The newest version that has a catalog in a dataset's folder; 0: none.
uint64_t newest_catalog(int folder);

}  // namespace larder
