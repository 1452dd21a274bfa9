// This node's own copy of the definitions that shared metadata gave: a JSON file in the state folder, replaced
// atomically. With the catalogs in the cache folder a restarted larderd serves what it served before, while the
// metadata is away or was emptied. Thread-safe.
#pragma once
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

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
  void load();
  void save() const;

  const std::string file_;
  mutable std::mutex mutex_;
  std::map<std::string, DatasetDef> defs_;
};

}  // namespace larder
