// This node's own copy of the definitions that shared metadata gave: a JSON file in the state folder, replaced
// atomically. With the catalogs in the cache folder a restarted larderd serves what it served before, while the
// metadata is away or was emptied. Thread-safe.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cached/base/mutex.h"
#include "cached/meta/meta.h"

namespace larder {

class DefinitionCopies {
 public:
  // An empty name keeps nothing.
  explicit DefinitionCopies(std::string file);
  // A copy that cannot be written is logged: it is needed only if the metadata is lost.
  void remember(const DatasetDef& def);
  void forget(const std::string& name);
  std::optional<DatasetDef> find(const std::string& name) const;
  std::vector<DatasetDef> all() const;

 private:
  void load_locked() REQUIRES(mutex_);
  void save_locked() const REQUIRES(mutex_);

  const std::string file_;
  mutable Mutex mutex_;  // held while the file is written
  std::map<std::string, DatasetDef> defs_ GUARDED_BY(mutex_);
};

}  // namespace larder
