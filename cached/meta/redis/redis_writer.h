// Writes one dataset version to Redis. Threads: one at a time.
#pragma once
#include <memory>

#include "cached/meta/redis/redis_directory.h"
#include "cached/meta/redis/redis_meta.h"
#include "cached/meta/segment.h"

namespace larder {

// The end of a segment depends on keys alone, not on how many came before, so that an insertion changes one segment. A
// segment has at least kMinObjects and ends at a key whose hash is 0 in the bits of kCutMask (4,096 objects more on
// average), at the latest at kSegmentObjects or before kMaxBytes.
class SegmentCutter {
 public:
  static constexpr size_t kMinObjects = 8'192;
  static constexpr uint64_t kCutMask = 4'095;
  static constexpr size_t kMaxBytes = 1'000'000;  // no command keeps Redis busy for more than about a millisecond
  // True if the segment ends after `key`; it has `objects` and `bytes` with it.
  static bool ends(std::string_view key, size_t objects, size_t bytes);
};

class RedisWriter final : public VersionWriter {
 public:
  RedisWriter(std::shared_ptr<RedisShared> shared, DatasetDef def);
  ~RedisWriter() override;
  Status add(const ObjectInfo& object) override;
  Result<VersionInfo> commit(uint64_t skipped) override;

 private:
  void step(const char* name) const;
  std::string key(std::string_view what) const { return shared_->keys().of(def_.name, what); }
  Result<int64_t> number_of(const RedisCommand& command);
  Status store_segment();
  Status keep_alive();
  Status lock();
  void unlock();
  Status publish();
  Status reserve();
  Status describe();
  Status make_current();
  void drop_old();
  Status drop(uint64_t version, const std::vector<ObjectId>& segments);

  const std::shared_ptr<RedisShared> shared_;
  const DatasetDef def_;
  const std::string token_;
  SegmentWriter segment_;
  std::string first_key_;
  std::vector<SegmentRow> rows_;
  std::chrono::steady_clock::time_point alive_;
  VersionInfo info_;
  bool ended_ = false;
  bool locked_ = false;
};

// Takes the lock of a dataset, to publish or remove it. Blocks; EBUSY after a minute. Returns the token.
Result<std::string> lock_dataset(RedisShared& shared, std::string_view name, const std::string& token);
void unlock_dataset(RedisShared& shared, std::string_view name, const std::string& token);
std::string new_token();

}  // namespace larder
