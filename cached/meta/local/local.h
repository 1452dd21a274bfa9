// local: metadata for a single machine, in one SQLite file.
//
// Tables: datasets; versions (a row appears in the same transaction that makes the version current: readers see all of
// it or nothing); sets and segments (the objects of a version, segment.h). A writer stores its segments under a set
// that no version names yet. A writer that dies leaves its set behind, and a later writer sweeps it after an hour
// without a sign of life. The newest two versions of a dataset stay, so that a load of the older one can finish.
//
// Several processes may have the file open (larderd and the command line): it is in WAL mode, and a busy lock is waited
// for up to 20 s. Threads: any.
#pragma once
#include <memory>
#include <string>

#include "cached/base/mutex.h"
#include "cached/meta/local/sqlite.h"
#include "cached/meta/meta.h"
#include "cached/meta/node_board.h"

namespace larder {

class LocalMeta final : public Meta {
 public:
  static Result<std::unique_ptr<Meta>> open(const std::string& directory);
  Status put_dataset(const DatasetDef& def) override;
  Result<std::optional<DatasetDef>> get_dataset(std::string_view name) override;
  Result<std::vector<DatasetDef>> datasets() override;
  Status remove_dataset(std::string_view name) override;
  Result<std::optional<VersionInfo>> current(std::string_view name) override;
  Result<std::unique_ptr<VersionWriter>> write_version(std::string_view name) override;
  Status load(std::string_view name, uint64_t version, const ObjectReceiver& object) override;
  Status publish_node(std::string_view name, const NodeInfo& node) override;
  Result<std::vector<NodeInfo>> nodes(std::string_view name) override;

 private:
  explicit LocalMeta(std::unique_ptr<Sqlite> db) : path_(db->path()), db_(std::move(db)) {}
  const std::string path_;
  Mutex mutex_;  // load() and writers have connections of their own
  const std::unique_ptr<Sqlite> db_ PT_GUARDED_BY(mutex_);
  NodeBoard nodes_;  // of this process: a machine has one larderd
};

}  // namespace larder
