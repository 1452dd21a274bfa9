// Metadata: which datasets exist and what is in each of their versions. Engines: local: (SQLite, one machine), redis://
// (many nodes).
//
// A version is immutable. VersionWriter::commit() is one atomic step: readers see the old version or the new one,
// whole. Threads: every function of Meta may be called from any thread and may block; a VersionWriter belongs to one
// thread at a time. Errors: ENOENT if the dataset or version does not exist, EIO for stored data that does not decode,
// and what the engine's own headers name.
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
  uint64_t version = 0;    // ascends within a dataset; a number is never reused
  int64_t created_ns = 0;  // CLOCK_REALTIME
  uint64_t objects = 0;
  uint64_t bytes = 0;
  uint64_t skipped = 0;  // objects that no path can name
};

// What one node has of one dataset.
struct NodeInfo {
  std::string node;               // its name: at most 255 bytes, no control bytes
  uint64_t version = 0;           // the dataset's version it serves
  uint64_t files = 0, bytes = 0;  // cached there
  uint32_t age_s = 0;             // since its last heartbeat (out)
};
inline constexpr uint32_t kNodeHeartbeatSeconds = 10;
inline constexpr uint32_t kNodeExpirySeconds = 35;  // three heartbeats and a little

// Writes one version. Objects must come in strictly ascending byte order of keys (EINVAL otherwise).
class VersionWriter {
 public:
  virtual ~VersionWriter() = default;  // without commit(), nothing is published
  virtual Status add(const ObjectInfo& object) = 0;
  virtual Result<VersionInfo> commit(uint64_t skipped) = 0;
};

// Receives one object after the other; the view is valid during the call. An error that it returns ends the load.
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

  // Calls `changed` with a dataset's name when another process may have published a version of it: within seconds,
  // perhaps more often than needed, on a thread of the engine's own, until the engine is destroyed. Call watch() at
  // most once. The engine of one machine never calls it.
  virtual void watch(std::function<void(const std::string& name)> changed) { (void)changed; }
  // A node's heartbeat. nodes() lists it for kNodeExpirySeconds; versions that a live node serves are kept.
  virtual Status publish_node(std::string_view name, const NodeInfo& node) = 0;
  // The live nodes of a dataset: those with the most cached bytes first, then by name.
  virtual Result<std::vector<NodeInfo>> nodes(std::string_view name) = 0;
};

// The live nodes of one dataset, or of every dataset if `name` is empty.
Status list_nodes(Meta& meta, const std::string& name,
                  const std::function<void(const std::string& dataset, const NodeInfo& node)>& one);

}  // namespace larder
