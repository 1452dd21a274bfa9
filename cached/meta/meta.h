// Metadata: which datasets exist and what is in each of their versions. Engines: local: (SQLite); redis:// later.
//
// A version is immutable. publish() is one atomic step: readers see the old version or the new one, whole.
// Threads: every function may be called from any thread and may block.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cached/store/store.h"
#include "larder/result.h"

namespace larder {

struct DatasetDef {
  std::string name;      // [A-Za-z0-9][A-Za-z0-9._-]{0,62}
  uint64_t id = 0;       // XXH3-64 of name and source, never 0; names the folder in the cache directory
  std::string source;    // SourceUrl text
  StoreOptions options;  // never a secret
  std::string group;     // Unix group that may read it; empty: everybody
};

struct VersionInfo {
  uint64_t version = 0;   // 1, 2, ... within a dataset
  int64_t created_ns = 0; // CLOCK_REALTIME
  uint64_t objects = 0;
  uint64_t bytes = 0;
  uint64_t skipped = 0;   // objects that no path can name
};

// Writes one version. Objects must come in strictly ascending byte order of keys (EINVAL otherwise).
class VersionWriter {
 public:
  virtual ~VersionWriter() = default;  // without commit(): nothing happened
  virtual Status add(const ObjectInfo& object) = 0;
  virtual Result<VersionInfo> commit(uint64_t skipped) = 0;
};

class Meta {
 public:
  virtual ~Meta() = default;
  virtual Status put_dataset(const DatasetDef& def) = 0;  // EEXIST if the name has another source
  virtual Result<std::optional<DatasetDef>> get_dataset(std::string_view name) = 0;
  virtual Result<std::vector<DatasetDef>> datasets() = 0;
  virtual Status remove_dataset(std::string_view name) = 0;
  virtual Result<std::optional<VersionInfo>> current(std::string_view name) = 0;
  virtual Result<std::unique_ptr<VersionWriter>> write_version(std::string_view name) = 0;
  // Objects of a version in ascending order. Stored data is untrusted: EIO with a message if it does not decode.
  virtual Status load(std::string_view name, uint64_t version, const std::function<Status(ObjectInfo&&)>& object) = 0;
};

// "local:" (below state_dir), "local:///path/to/dir".
Result<std::unique_ptr<Meta>> open_meta(std::string_view url, std::string_view state_dir);

}  // namespace larder
