#include "cached/meta/redis/redis_meta.h"

#include <algorithm>

#include "cached/base/text.h"
#include "cached/meta/definition.h"
#include "cached/meta/node_board.h"
#include "cached/meta/redis/redis_records.h"
#include "cached/meta/redis/redis_scripts.h"
#include "cached/meta/redis/redis_values.h"
#include "cached/meta/redis/redis_version.h"
#include "cached/meta/redis/redis_watch.h"
#include "cached/meta/redis/redis_writer.h"

namespace larder {
namespace {

using Type = RedisReply::Type;

std::string full_prefix(const RedisClient& client) {
  const RedisUrl& url = client.url();
  std::string out = url.prefix.empty() || url.prefix.ends_with(':') ? url.prefix : url.prefix + ":";
  if (client.is_cluster() && url.db != 0) out = fmt::format("db{}:{}", url.db, out);
  return out;
}

}  // namespace

Status RedisShared::ready() {
  if (ready_) return {};
  if (auto pong = client.run(RedisCommand("PING")); !pong) return pong.error();
  auto keys = std::make_unique<const RedisKeys>(full_prefix(client));
  auto schema = client.run(RedisCommand("GET").key(keys->schema()));
  if (!schema) return schema.error();
  if (schema->is_text()) {
    auto number = whole_number<int64_t>(schema->text);
    if (!number)
      return make_error(EPROTO, fmt::format("{}: '{}' is no schema version of larder's; use another database or prefix",
                                            client.url().text(), printable(schema->text, 40)));
    if (*number > kRedisSchema) return newer_schema(client.url(), schema->text);
  }
  MutexLock lock(mutex_);
  if (!keys_) keys_ = std::move(keys);
  ready_ = true;
  return {};
}

RedisMeta::RedisMeta(std::shared_ptr<RedisShared> shared) : shared_(std::move(shared)) {}

RedisMeta::~RedisMeta() {
  shared_->client.stop();
  watcher_.reset();
}

Result<std::unique_ptr<Meta>> RedisMeta::open(std::string_view text, RedisSteps steps) {
  auto url = parse_redis_url(text);
  if (!url) return url.error();
  auto shared = std::make_shared<RedisShared>(std::move(*url));
  shared->steps = std::move(steps);
  if (auto status = shared->ready(); !status) {
    const int code = status.error().code;
    if (code == EPROTO || code == EACCES || code == EINVAL) return status.error();
  }
  return std::unique_ptr<Meta>(new RedisMeta(std::move(shared)));
}

// ---- datasets -----------------------------------------------------------------------------------

Status RedisMeta::put_dataset(const DatasetDef& def) {
  if (auto status = check_definition(def); !status) return status;
  if (auto status = shared_->ready(); !status) return status;
  const RedisKeys& keys = shared_->keys();
  auto schema = shared_->client.run(RedisCommand("SET").key(keys.schema()).add(kRedisSchema).add("NX"));
  if (!schema) return schema.error();
  auto put = shared_->client.run(RedisEval(redis_scripts::kPutDataset)
                                     .key(keys.of(def.name, "def"))
                                     .arg(kRedisSchema)
                                     .arg(std::to_string(def.id))
                                     .arg(def.source)
                                     .arg(options_text(def.options))
                                     .arg(def.group)
                                     .command());
  if (!put) return put.error();
  if (put->items.size() != 2) return make_error(EIO, "Redis: a script answered something else");
  if (put->items[0].text == "schema") return newer_schema(shared_->client.url(), put->items[1].text);
  if (put->items[0].text == "exists")
    return make_error(
        EEXIST, fmt::format("dataset '{}' already exists with the source {}", def.name, printable(put->items[1].text)));
  auto added = shared_->client.run(RedisCommand("SADD").key(keys.datasets()).add(def.name));
  return added ? Status() : Status(added.error());
}

Result<std::optional<DatasetDef>> RedisMeta::get_dataset(std::string_view name) {
  if (!valid_dataset_name(name)) return std::optional<DatasetDef>();
  if (auto status = shared_->ready(); !status) return status.error();
  auto flat = shared_->client.run(RedisCommand("HGETALL").key(shared_->keys().of(name, "def")));
  if (!flat) return flat.error();
  if (flat->items.empty()) return std::optional<DatasetDef>();
  auto def = parse_definition(shared_->client.url(), name, *flat);
  if (!def) return def.error();
  return std::optional<DatasetDef>(std::move(*def));
}

Result<std::vector<DatasetDef>> RedisMeta::datasets() {
  if (auto status = shared_->ready(); !status) return status.error();
  auto names = shared_->client.run(RedisCommand("SMEMBERS").key(shared_->keys().datasets()));
  if (!names) return names.error();
  std::vector<DatasetDef> out;
  for (const RedisReply& name : names->items) {
    auto def = get_dataset(name.text);
    if (!def) return def.error();
    if (*def) out.push_back(std::move(**def));
  }
  std::sort(out.begin(), out.end(), [](const DatasetDef& a, const DatasetDef& b) { return a.name < b.name; });
  return out;
}

// The parts stay for a while, so that a load finishes. The definition goes last, so that an interrupted removal can be
// repeated.
Status RedisMeta::remove_dataset(std::string_view name) {
  auto def = get_dataset(name);
  if (!def) return def.error();
  if (!*def) return no_dataset(name);
  const RedisKeys& keys = shared_->keys();
  const std::string token = new_token();
  if (auto locked = lock_dataset(*shared_, name, token); !locked) return locked.error();
  auto versions = shared_->client.run(RedisCommand("ZRANGE").key(keys.of(name, "versions")).add("0").add("-1"));
  std::vector<RedisCommand> commands;
  for (const RedisReply& text : versions ? versions->items : std::vector<RedisReply>()) {
    const uint64_t version = whole_number(text.text).value_or(0);
    for (const char* what : {"meta", "dir"})
      commands.push_back(RedisCommand("EXPIRE").key(keys.of(name, version, what)).add(kGraceSeconds));
    if (auto rows = read_directory(*shared_, name, version))
      for (const SegmentRow& row : *rows)
        commands.push_back(RedisCommand("EXPIRE").key(keys.segment(name, row.hash)).add(kGraceSeconds));
  }
  RedisCommand forget("DEL");
  for (const char* what : {"cur", "versions", "nodes", "def", "lock"})
    forget.key(keys.of(name, what));
  commands.push_back(std::move(forget));
  if (auto done = shared_->client.run_all(commands); !done) return done.error();
  auto unlisted = shared_->client.run(RedisCommand("SREM").key(keys.datasets()).add(name));
  return unlisted ? Status() : Status(unlisted.error());
}

// ---- versions -----------------------------------------------------------------------------------

Result<std::optional<VersionInfo>> RedisMeta::current(std::string_view name) {
  if (!valid_dataset_name(name)) return std::optional<VersionInfo>();
  if (auto status = shared_->ready(); !status) return status.error();
  auto cur = shared_->client.run(RedisCommand("GET").key(shared_->keys().of(name, "cur")));
  if (!cur) return cur.error();
  if (!cur->is_text()) return std::optional<VersionInfo>();
  auto version = whole_number(cur->text);
  if (!version || *version == 0)
    return make_error(
        EIO, fmt::format("metadata in Redis: dataset '{}': '{}' is no version", name, printable(cur->text, 40)));
  auto flat = shared_->client.run(RedisCommand("HGETALL").key(shared_->keys().of(name, *version, "meta")));
  if (!flat) return flat.error();
  auto info = parse_version_info(name, *version, *flat);
  if (!info) return info.error();
  return std::optional<VersionInfo>(*info);
}

Result<std::unique_ptr<VersionWriter>> RedisMeta::write_version(std::string_view name) {
  auto def = get_dataset(name);
  if (!def) return def.error();
  if (!*def) return no_dataset(name);
  return std::unique_ptr<VersionWriter>(std::make_unique<RedisWriter>(shared_, std::move(**def)));
}

Status RedisMeta::load(std::string_view name, uint64_t version, const ObjectReceiver& object) {
  if (auto status = shared_->ready(); !status) return status;
  return load_version(*shared_, name, version, object);
}

void RedisMeta::watch(std::function<void(const std::string& name)> changed) {
  watcher_ = std::make_unique<RedisWatcher>(*this, shared_, std::move(changed));
}

// ---- nodes --------------------------------------------------------------------------------------

Status RedisMeta::publish_node(std::string_view name, const NodeInfo& node) {
  if (!valid_dataset_name(name)) return no_dataset(name);
  if (!valid_node_name(node.node))
    return make_error(EINVAL, fmt::format("'{}' cannot be the name of a node", printable(node.node, 80)));
  if (auto status = shared_->ready(); !status) return status;
  auto there = shared_->client.run(RedisEval(redis_scripts::kBeat)
                                       .key(shared_->keys().of(name, "def"))
                                       .key(shared_->keys().of(name, "nodes"))
                                       .arg(node.node)
                                       .arg(fmt::format("{} {} {}", node.version, node.files, node.bytes))
                                       .arg(kNodeExpirySeconds)
                                       .command());
  if (!there) return there.error();
  return there->integer == 1 ? Status() : no_dataset(name);
}

Result<std::vector<NodeInfo>> RedisMeta::nodes(std::string_view name) {
  if (!valid_dataset_name(name)) return no_dataset(name);
  if (auto status = shared_->ready(); !status) return status.error();
  auto flat = shared_->client.run(RedisEval(redis_scripts::kNodes)
                                      .key(shared_->keys().of(name, "def"))
                                      .key(shared_->keys().of(name, "nodes"))
                                      .command());
  if (!flat) return flat.error();
  if (flat->items.size() < 2) return make_error(EIO, "Redis: a script answered something else");
  if (flat->items[0].integer != 1) return no_dataset(name);
  const int64_t now_ms = whole_number<int64_t>(flat->items[1].text).value_or(0);
  std::vector<NodeInfo> out;
  for (size_t i = 2; i + 1 < flat->items.size(); i += 2) {
    if (auto node = parse_beat(flat->items[i].text, flat->items[i + 1].text, now_ms)) out.push_back(std::move(*node));
  }
  sort_nodes(out);
  return out;
}

}  // namespace larder
