#include "cached/meta/redis/redis_version.h"

#include <thread>

#include "cached/base/text.h"
#include "cached/meta/definition.h"
#include "cached/meta/object_pipe.h"
#include "cached/meta/redis/redis_values.h"
#include "cached/meta/segment.h"

namespace larder {
namespace {

using Type = RedisReply::Type;
constexpr size_t kSegmentsAtOnce = 4;  // 2-4 MB under way; more gained nothing on loopback

Error damaged(std::string_view name, uint64_t version, std::string_view why) {
  return make_error(EIO, fmt::format("metadata in Redis: dataset '{}' version {}: {}; `larder refresh` or `larder "
                                     "format --restore` writes it anew",
                                     printable(name, 80), version, printable(why)));
}

// One version while it is loaded. Its own thread fetches, checks and decodes; the caller's thread receives.
class Loader {
 public:
  Loader(RedisShared& shared, std::string_view name, uint64_t version)
      : shared_(shared), name_(name), version_(version) {}

  Status run(uint64_t objects, const ObjectReceiver& object) {
    auto rows = read_directory(shared_, name_, version_);
    if (!rows) return rows.error();
    uint64_t named = 0;
    for (const SegmentRow& row : *rows)
      named += row.objects;
    if (named != objects) return damaged(name_, version_, "segments are missing");
    std::thread fetcher([&] { pipe_.close(fetch(*rows)); });
    Status received;
    for (ObjectBatch batch; received && pipe_.take(batch);)
      received = batch.each(object);
    if (!received) pipe_.stop();
    fetcher.join();
    return received ? pipe_.status() : received;
  }

 private:
  Status fetch(std::span<const SegmentRow> rows) {
    for (size_t at = 0; at < rows.size(); at += kSegmentsAtOnce)
      if (auto status = some(rows.subspan(at, std::min(kSegmentsAtOnce, rows.size() - at)), at == 0); !status)
        return status;
    return {};
  }

  Status some(std::span<const SegmentRow> rows, bool first) {
    std::vector<RedisCommand> gets;
    for (const SegmentRow& row : rows)
      gets.push_back(RedisCommand("GET").key(shared_.keys().segment(name_, row.hash)));
    auto replies = shared_.client.run_all(gets);
    if (!replies) return replies.error();
    for (size_t i = 0; i < rows.size(); ++i) {
      auto batch = decoded(rows[i], (*replies)[i], first && i == 0);
      if (!batch) return batch.error();
      if (!pipe_.give(std::move(*batch))) return make_error(ECANCELED, "nobody receives any more");
    }
    return {};
  }

  Result<ObjectBatch> decoded(const SegmentRow& row, const RedisReply& reply, bool first) {
    if (!reply.is_text())
      return damaged(name_, version_, "a segment is missing (is Redis' maxmemory-policy noeviction?)");
    if (reply.text.size() != row.bytes || segment_hash(reply.text) != row.hash)
      return damaged(name_, version_, "a segment has other bytes than it was named for");
    ObjectBatch batch(row.objects);
    auto status = decode_segment(reply.text, &last_key_, first,
                                 [&](const ObjectView& object) { return batch.add(object), Status(); });
    if (!status) return damaged(name_, version_, status.error().message);
    if (batch.size() != row.objects)
      return damaged(name_, version_, "a segment has another number of objects than its row says");
    return batch;
  }

  RedisShared& shared_;
  const std::string_view name_;
  const uint64_t version_;
  ObjectPipe pipe_;
  std::string last_key_;  // the fetcher's
};

}  // namespace

Result<VersionInfo> parse_version_info(std::string_view name, uint64_t version, const RedisReply& flat) {
  auto created = number_field<int64_t>(flat, "created_ns");
  auto objects = number_field(flat, "objects"), bytes = number_field(flat, "bytes"),
       skipped = number_field(flat, "skipped");
  if (!created || !objects || !bytes || !skipped) return damaged(name, version, "its description is missing or wrong");
  return VersionInfo{version, *created, *objects, *bytes, *skipped};
}

Result<std::vector<SegmentRow>> read_directory(RedisShared& shared, std::string_view name, uint64_t version) {
  auto reply = shared.client.run(RedisCommand("GET").key(shared.keys().of(name, version, "dir")));
  if (!reply) return reply.error();
  if (!reply->is_text()) return damaged(name, version, "its directory is missing");
  auto rows = decode_directory(reply->text);
  if (!rows) return damaged(name, version, rows.error().message);
  return rows;
}

Status load_version(RedisShared& shared, std::string_view name, uint64_t version, const ObjectReceiver& object) {
  const RedisKeys& keys = shared.keys();
  auto head = shared.client.run_all({RedisCommand("ZSCORE").key(keys.of(name, "versions")).add(std::to_string(version)),
                                     RedisCommand("HGETALL").key(keys.of(name, version, "meta"))});
  if (!head) return head.error();
  if (!(*head)[0].is_text())
    return make_error(ENOENT, fmt::format("dataset '{}' has no version {}", printable(name, 80), version));
  auto info = parse_version_info(name, version, (*head)[1]);
  if (!info) return info.error();
  return Loader(shared, name, version).run(info->objects, object);
}

}  // namespace larder
