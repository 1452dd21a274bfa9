// Metadata: which datasets exist and what is in each of their versions. Engines: local: (SQLite), redis:// (many
// nodes).
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

#include "cached/store/api/store.h"
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
  uint64_t version = 0;    // ascends within a dataset; a number is never used again
  int64_t created_ns = 0;  // CLOCK_REALTIME
  uint64_t objects = 0;
  uint64_t bytes = 0;
  uint64_t skipped = 0;  // objects that no path can name
};

// What one node has of one dataset.
struct NodeInfo {
  std::string node;               // its name: at most 255 bytes, without control bytes
  uint64_t version = 0;           // the dataset's version it serves
  uint64_t files = 0, bytes = 0;  // cached there
  uint32_t age_s = 0;             // since its last heartbeat (out)
};
inline constexpr uint32_t kNodeHeartbeatSeconds = 10;
inline constexpr uint32_t kNodeExpirySeconds = 35;  // three heartbeats and a little

// Writes one version. Objects must come in strictly ascending byte order of keys (EINVAL otherwise).
class VersionWriter {
 public:
  virtual ~VersionWriter() = default;  // without commit(): nothing happened
  virtual Status add(const ObjectInfo& object) = 0;
  virtual Result<VersionInfo> commit(uint64_t skipped) = 0;
};

// Gets one object after the other; the view holds during the call. Its error ends the load.
using ObjectReceiver = std::function<Status(const ObjectView&)>;

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
  virtual Status load(std::string_view name, uint64_t version, const ObjectReceiver& object) = 0;

  // From now on calls `changed` with a dataset's name when somebody else may have published a version of it; within
  // seconds, perhaps more often than needed, on a thread of the engine's own, until the engine is destroyed. At most
  // one call of watch(). An engine of one machine has nobody else.
  virtual void watch(std::function<void(const std::string& name)> changed) { (void)changed; }
  // A node's heartbeat: what it has is listed for kNodeExpirySeconds. Versions that a live node serves are kept.
  virtual Status publish_node(std::string_view name, const NodeInfo& node) = 0;
  // The live nodes of a dataset: those with the most cached bytes first, then by name.
  virtual Result<std::vector<NodeInfo>> nodes(std::string_view name) = 0;
};

// The live nodes of one dataset, or of every dataset if `name` is empty.
Status list_nodes(Meta& meta, const std::string& name,
                  const std::function<void(const std::string& dataset, const NodeInfo& node)>& one);

// "local:" (below state_dir), "local:///path/to/dir", "redis://..." (cached/meta/redis/redis_url.h). A Redis that
// cannot be reached now is no error here: each function tries again.
Result<std::unique_ptr<Meta>> open_meta(std::string_view url, std::string_view state_dir);

}  // namespace larder
