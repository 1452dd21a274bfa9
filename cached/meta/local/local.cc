#include "cached/meta/local/local.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <ctime>

#include "cached/base/text.h"
#include "cached/meta/definition.h"
#include "cached/meta/local/sqlite.h"
#include "cached/meta/segment.h"

namespace larder {
namespace {

constexpr int kSchema = 1;
constexpr int64_t kAbandonedNs = 3600LL * 1'000'000'000;
constexpr int kKeepVersions = 2;

constexpr const char* kTables = R"(
  CREATE TABLE IF NOT EXISTS datasets(
    name TEXT PRIMARY KEY, id INTEGER NOT NULL, source TEXT NOT NULL, options TEXT NOT NULL, user_group TEXT NOT NULL,
    last_version INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS sets(id INTEGER PRIMARY KEY AUTOINCREMENT, alive_ns INTEGER NOT NULL);
  CREATE TABLE IF NOT EXISTS versions(
    name TEXT NOT NULL REFERENCES datasets(name) ON DELETE CASCADE, version INTEGER NOT NULL, set_id INTEGER NOT NULL,
    created_ns INTEGER NOT NULL, objects INTEGER NOT NULL, bytes INTEGER NOT NULL, skipped INTEGER NOT NULL,
    segments INTEGER NOT NULL, PRIMARY KEY(name, version)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS segments(
    set_id INTEGER NOT NULL, number INTEGER NOT NULL, data BLOB NOT NULL, UNIQUE(set_id, number));
)";

int64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

Result<DatasetDef> dataset_of(const Statement& row) {
  DatasetDef out;
  out.name = row.text(0);
  out.id = static_cast<uint64_t>(row.number(1));
  out.source = row.text(2);
  out.group = row.text(4);
  auto options = parse_options_text(out.name, row.text(3));
  if (!options.ok()) return options.error();
  out.options = std::move(*options);
  return out;
}

constexpr const char* kSelectDataset = "SELECT name, id, source, options, user_group FROM datasets";

Result<std::optional<DatasetDef>> find_dataset(Sqlite& db, std::string_view name) {
  Statement row(db, "SELECT name, id, source, options, user_group FROM datasets WHERE name = ?");
  auto found = row.bind(name).step("reading a dataset");
  if (!found.ok()) return found.error();
  if (!*found) return std::optional<DatasetDef>();
  auto def = dataset_of(row);
  if (!def.ok()) return def.error();
  return std::optional<DatasetDef>(std::move(*def));
}

// Sets that no version names and whose writer gave no sign of life for an hour.
Status sweep(Sqlite& db) {
  constexpr const char* kOrphans = "id NOT IN (SELECT set_id FROM versions) AND alive_ns < ?";
  const int64_t before = now_ns() - kAbandonedNs;
  Statement data(db,
                 fmt::format("DELETE FROM segments WHERE set_id IN (SELECT id FROM sets WHERE {})", kOrphans).c_str());
  if (auto status = data.bind(before).run("sweeping"); !status.ok()) return status;
  return Statement(db, fmt::format("DELETE FROM sets WHERE {}", kOrphans).c_str()).bind(before).run("sweeping");
}

class LocalWriter final : public VersionWriter {
 public:
  LocalWriter(std::unique_ptr<Sqlite> db, std::string name, uint64_t dataset_id)
      : db_(std::move(db)), name_(std::move(name)), dataset_id_(dataset_id) {}

  ~LocalWriter() override {
    if (set_ != 0 && !committed_) drop_set();
  }

  Status begin() {
    Transaction transaction(*db_, "BEGIN IMMEDIATE");
    if (!transaction.began().ok()) return transaction.began();
    if (auto status = sweep(*db_); !status.ok()) return status;
    if (auto status = Statement(*db_, "INSERT INTO sets(alive_ns) VALUES(?)").bind(now_ns()).run("beginning a version");
        !status.ok()) {
      return status;
    }
    const int64_t set = sqlite3_last_insert_rowid(db_->handle());
    if (auto status = transaction.commit(); !status.ok()) return status;
    set_ = set;
    return {};
  }

  Status add(const ObjectInfo& object) override {
    if (failed_ || committed_) return make_error(EINVAL, "this version is already ended");
    Status status = segment_.add(object);
    if (status.ok()) {
      ++info_.objects;
      info_.bytes += object.size;
      if (segment_.full()) status = store_segment();
    }
    failed_ = !status.ok();
    return status;
  }

  Result<VersionInfo> commit(uint64_t skipped) override {
    if (failed_ || committed_) return make_error(EINVAL, "this version is already ended");
    failed_ = true;
    info_.skipped = skipped;
    if (segment_.count() > 0) {
      if (auto status = store_segment(); !status.ok()) return status.error();
    }
    if (auto status = publish(); !status.ok()) return status.error();
    committed_ = true;
    return info_;
  }

 private:
  Status store_segment() {
    const std::string bytes = segment_.finish();
    Transaction transaction(*db_, "BEGIN IMMEDIATE");
    if (!transaction.began().ok()) return transaction.began();
    Statement insert(*db_, "INSERT INTO segments(set_id, number, data) VALUES(?, ?, ?)");
    if (auto status = insert.bind(set_).bind(segments_).bind_blob(bytes).run("storing a segment"); !status.ok())
      return status;
    Statement alive(*db_, "UPDATE sets SET alive_ns = ? WHERE id = ?");
    if (auto status = alive.bind(now_ns()).bind(set_).run("storing a segment"); !status.ok()) return status;
    if (sqlite3_changes(db_->handle()) != 1)
      return make_error(EIO, "the version took so long that it was taken for abandoned");
    if (auto status = transaction.commit(); !status.ok()) return status;
    ++segments_;
    return {};
  }

  // The one atomic step. FULL: a version that was announced survives a power cut.
  Status publish() {
    if (auto status = db_->run("PRAGMA synchronous = FULL"); !status.ok()) return status;
    Transaction transaction(*db_, "BEGIN IMMEDIATE");
    if (!transaction.began().ok()) return transaction.began();
    if (auto status = next_version(); !status.ok()) return status;
    Statement insert(*db_, "INSERT INTO versions VALUES(?, ?, ?, ?, ?, ?, ?, ?)");
    insert.bind(name_).bind(static_cast<int64_t>(info_.version)).bind(set_).bind(info_.created_ns);
    insert.bind(static_cast<int64_t>(info_.objects))
        .bind(static_cast<int64_t>(info_.bytes))
        .bind(static_cast<int64_t>(info_.skipped));
    if (auto status = insert.bind(segments_).run("publishing a version"); !status.ok()) return status;
    if (auto status = drop_old(); !status.ok()) return status;
    return transaction.commit();
  }

  Status next_version() {
    Statement bump(
        *db_, "UPDATE datasets SET last_version = last_version + 1 WHERE name = ? AND id = ? RETURNING last_version");
    auto row = bump.bind(name_).bind(static_cast<int64_t>(dataset_id_)).step("publishing a version");
    if (!row.ok()) return row.error();
    if (!*row) return no_dataset(name_);  // removed, or replaced, while it was listed
    info_.version = static_cast<uint64_t>(bump.number(0));
    info_.created_ns = now_ns();
    Statement swept(*db_, "SELECT 1 FROM sets WHERE id = ?");
    auto alive = swept.bind(set_).step("publishing a version");
    if (!alive.ok()) return alive.error();
    if (!*alive) return make_error(EIO, "the version took so long that it was taken for abandoned");
    return {};
  }

  Status drop_old() {
    const int64_t newest_to_drop = static_cast<int64_t>(info_.version) - kKeepVersions;
    for (const char* sql :
         {"DELETE FROM segments WHERE set_id IN (SELECT set_id FROM versions WHERE name = ? AND version <= ?)",
          "DELETE FROM sets WHERE id IN (SELECT set_id FROM versions WHERE name = ? AND version <= ?)",
          "DELETE FROM versions WHERE name = ? AND version <= ?"}) {
      if (auto status = Statement(*db_, sql).bind(name_).bind(newest_to_drop).run("dropping old versions");
          !status.ok())
        return status;
    }
    return {};
  }

  // Best effort: a later writer sweeps what is left.
  void drop_set() {
    Transaction transaction(*db_, "BEGIN IMMEDIATE");
    if (!transaction.began().ok()) return;
    if (!Statement(*db_, "DELETE FROM segments WHERE set_id = ?").bind(set_).run("dropping a set").ok()) return;
    if (!Statement(*db_, "DELETE FROM sets WHERE id = ?").bind(set_).run("dropping a set").ok()) return;
    (void)transaction.commit();
  }

  const std::unique_ptr<Sqlite> db_;
  const std::string name_;
  const uint64_t dataset_id_;
  int64_t set_ = 0;
  int64_t segments_ = 0;
  SegmentWriter segment_;
  VersionInfo info_;
  bool failed_ = false;
  bool committed_ = false;
};

// The file and its folder are readable by the user only: a definition may name private buckets.
Status make_private(const std::string& directory, const std::string& path) {
  for (size_t slash = directory.find('/', 1);; slash = directory.find('/', slash + 1)) {
    const std::string part = directory.substr(0, slash);
    if (mkdir(part.c_str(), 0700) != 0 && errno != EEXIST && access(part.c_str(), X_OK) != 0) {
      return make_error(errno, fmt::format("metadata directory {}: {}", printable(directory), strerror(errno)));
    }
    if (slash == std::string::npos) break;
  }
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return make_error(errno, fmt::format("metadata file {}: {}", printable(path), strerror(errno)));
  close(fd);
  return {};
}

Status set_up(Sqlite& db) {
  // 32 KiB pages: a segment of 650 KB is then a chain of 20 overflow pages, not 160. Only a new file takes it.
  for (const char* sql : {"PRAGMA page_size = 32768", "PRAGMA journal_mode = WAL"}) {
    if (auto status = db.run(sql); !status.ok()) return status;
  }
  Transaction transaction(db, "BEGIN IMMEDIATE");
  if (!transaction.began().ok()) return transaction.began();
  int64_t schema = 0;
  {
    Statement version(db, "PRAGMA user_version");
    auto row = version.step("reading the schema's version");
    if (!row.ok()) return row.error();
    schema = version.number(0);
  }
  if (schema > kSchema) {
    return make_error(
        EPROTO,
        fmt::format("{} was made by a newer larder (schema {}, this one knows {}): use that version, or another "
                    "metadata directory",
                    db.path(), schema, kSchema));
  }
  if (schema == 0) {
    if (auto status = db.run(kTables); !status.ok()) return status;
    if (auto status = db.run(fmt::format("PRAGMA user_version = {}", kSchema).c_str()); !status.ok()) return status;
  }
  return transaction.commit();
}

}  // namespace

Result<std::unique_ptr<Meta>> LocalMeta::open(const std::string& directory) {
  const std::string path = directory + "/meta.sqlite";
  if (auto status = make_private(directory, path); !status.ok()) return status.error();
  auto db = Sqlite::open(path);
  if (!db.ok()) return db.error();
  if (auto status = set_up(**db); !status.ok()) return status.error();
  return std::unique_ptr<Meta>(new LocalMeta(std::move(*db)));
}

Status LocalMeta::put_dataset(const DatasetDef& def) {
  if (auto status = check_definition(def); !status.ok()) return status;
  MutexLock lock(mutex_);
  Transaction transaction(*db_, "BEGIN IMMEDIATE");
  if (!transaction.began().ok()) return transaction.began();
  auto there = find_dataset(*db_, def.name);
  if (!there.ok()) return there.error();
  if (*there && (*there)->source != def.source) {
    return make_error(
        EEXIST, fmt::format("dataset '{}' already exists with the source {}", def.name, printable((*there)->source)));
  }
  Statement put(*db_,
                "INSERT INTO datasets(name, id, source, options, user_group) VALUES(?, ?, ?, ?, ?) "
                "ON CONFLICT(name) DO UPDATE SET options = excluded.options, user_group = excluded.user_group");
  put.bind(def.name).bind(static_cast<int64_t>(def.id)).bind(def.source).bind(options_text(def.options));
  if (auto status = put.bind(def.group).run("storing a dataset"); !status.ok()) return status;
  return transaction.commit();
}

Result<std::optional<DatasetDef>> LocalMeta::get_dataset(std::string_view name) {
  MutexLock lock(mutex_);
  return find_dataset(*db_, name);
}

Result<std::vector<DatasetDef>> LocalMeta::datasets() {
  MutexLock lock(mutex_);
  std::vector<DatasetDef> out;
  Statement rows(*db_, fmt::format("{} ORDER BY name", kSelectDataset).c_str());
  while (true) {
    auto row = rows.step("reading datasets");
    if (!row.ok()) return row.error();
    if (!*row) return out;
    auto def = dataset_of(rows);
    if (!def.ok()) return def.error();
    out.push_back(std::move(*def));
  }
}

Status LocalMeta::remove_dataset(std::string_view name) {
  MutexLock lock(mutex_);
  Transaction transaction(*db_, "BEGIN IMMEDIATE");
  if (!transaction.began().ok()) return transaction.began();
  for (const char* sql : {"DELETE FROM segments WHERE set_id IN (SELECT set_id FROM versions WHERE name = ?)",
                          "DELETE FROM sets WHERE id IN (SELECT set_id FROM versions WHERE name = ?)",
                          "DELETE FROM versions WHERE name = ?"}) {
    if (auto status = Statement(*db_, sql).bind(name).run("removing a dataset"); !status.ok()) return status;
  }
  if (auto status = Statement(*db_, "DELETE FROM datasets WHERE name = ?").bind(name).run("removing a dataset");
      !status.ok())
    return status;
  if (sqlite3_changes(db_->handle()) == 0) return no_dataset(name);
  return transaction.commit();
}

Result<std::optional<VersionInfo>> LocalMeta::current(std::string_view name) {
  MutexLock lock(mutex_);
  Statement row(
      *db_,
      "SELECT version, created_ns, objects, bytes, skipped FROM versions WHERE name = ? ORDER BY version DESC LIMIT 1");
  auto found = row.bind(name).step("reading the current version");
  if (!found.ok()) return found.error();
  if (!*found) return std::optional<VersionInfo>();
  return std::optional<VersionInfo>(
      VersionInfo{static_cast<uint64_t>(row.number(0)), row.number(1), static_cast<uint64_t>(row.number(2)),
                  static_cast<uint64_t>(row.number(3)), static_cast<uint64_t>(row.number(4))});
}

Result<std::unique_ptr<VersionWriter>> LocalMeta::write_version(std::string_view name) {
  auto def = get_dataset(name);
  if (!def.ok()) return def.error();
  if (!*def) return no_dataset(name);
  auto db = Sqlite::open(path_);
  if (!db.ok()) return db.error();
  auto writer = std::make_unique<LocalWriter>(std::move(*db), std::string(name), (*def)->id);
  if (auto status = writer->begin(); !status.ok()) return status.error();
  return std::unique_ptr<VersionWriter>(std::move(writer));
}

Status LocalMeta::load(std::string_view name, uint64_t version, const ObjectReceiver& object) {
  auto db = Sqlite::open(path_);
  if (!db.ok()) return db.error();
  Transaction snapshot(**db, "BEGIN");  // what is dropped meanwhile stays visible here
  if (!snapshot.began().ok()) return snapshot.began();
  Statement head(**db, "SELECT set_id, segments, objects FROM versions WHERE name = ? AND version = ?");
  auto found = head.bind(name).bind(static_cast<int64_t>(version)).step("reading a version");
  if (!found.ok()) return found.error();
  if (!*found) return make_error(ENOENT, fmt::format("dataset '{}' has no version {}", printable(name, 80), version));
  Statement rows(**db, "SELECT number, data FROM segments WHERE set_id = ? ORDER BY number");
  rows.bind(head.number(0));
  std::string last_key;
  int64_t seen = 0, objects = 0;
  auto damaged = [&](std::string_view why) {
    return make_error(EIO, fmt::format("metadata file {}: dataset '{}' version {}: {}; `larder refresh` writes it anew",
                                       printable((*db)->path()), printable(name, 80), version, why));
  };
  while (true) {
    auto row = rows.step("reading a segment");
    if (!row.ok()) return row.error();
    if (!*row) break;
    if (rows.number(0) != seen) return damaged(fmt::format("segment {} is missing", seen));
    Status inner;
    auto status = decode_segment(rows.text(1), &last_key, seen == 0, [&](const ObjectView& one) {
      ++objects;
      return inner = object(one);
    });
    if (!inner.ok()) return inner;  // the receiver's own
    if (!status.ok()) return damaged(status.error().message);
    ++seen;
  }
  if (seen != head.number(1) || objects != head.number(2)) return damaged("segments are missing");
  return {};
}

Status LocalMeta::publish_node(std::string_view name, const NodeInfo& node) {
  auto def = get_dataset(name);
  if (!def.ok()) return def.error();
  if (!*def) return no_dataset(name);
  nodes_.publish(name, node);
  return {};
}

Result<std::vector<NodeInfo>> LocalMeta::nodes(std::string_view name) {
  auto def = get_dataset(name);
  if (!def.ok()) return def.error();
  if (!*def) return no_dataset(name);
  return nodes_.live(name);
}

}  // namespace larder
