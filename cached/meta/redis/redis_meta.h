// redis:// metadata: one namespace for many nodes. Keys: redis_keys.h; docs/metadata.md.
//
// A writer stores a version beside the current one (segments expire unless a version names them), describes it, and
// makes it current by one script. A publisher holds a lock that expires, and every step checks that it still holds it:
// a publisher that lost its lock publishes nothing. Dropped versions stay for kGraceSeconds, so that a load that began
// finishes.
//
// open() does not connect: a Redis that is away is an error of the function that needs it, and the next one tries
// again. Threads: any.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "cached/base/mutex.h"
#include "cached/meta/meta.h"
#include "cached/meta/redis/redis_client.h"
#include "cached/meta/redis/redis_keys.h"
#include "cached/meta/redis/redis_records.h"

namespace larder {

inline constexpr int kGraceSeconds = 3600;

// Called with the name of each step of publishing, before the step: tests end the process there.
using RedisSteps = std::function<void(const char* step)>;

// What all parts of one open RedisMeta share.
struct RedisShared {
  explicit RedisShared(RedisUrl url) : client(std::move(url)) {}
  // Connects and checks the schema, until that succeeded once. Call it before everything else. Blocks.
  Status ready();
  // After ready() succeeded. Never changes.
  const RedisKeys& keys() const {
    MutexLock lock(mutex_);
    return *keys_;
  }

  RedisClient client;
  RedisSteps steps;

 private:
  mutable Mutex mutex_;
  std::unique_ptr<const RedisKeys> keys_ GUARDED_BY(mutex_);
  std::atomic<bool> ready_{false};
};

class RedisWatcher;

class RedisMeta final : public Meta {
 public:
  // EINVAL: the URL is wrong. EPROTO: Redis has a newer schema. EACCES: Redis refuses the login.
  static Result<std::unique_ptr<Meta>> open(std::string_view url, RedisSteps steps = {});
  ~RedisMeta() override;
  Status put_dataset(const DatasetDef& def) override;
  Result<std::optional<DatasetDef>> get_dataset(std::string_view name) override;
  Result<std::vector<DatasetDef>> datasets() override;
  Status remove_dataset(std::string_view name) override;
  Result<std::optional<VersionInfo>> current(std::string_view name) override;
  Result<std::unique_ptr<VersionWriter>> write_version(std::string_view name) override;
  Status load(std::string_view name, uint64_t version, const ObjectReceiver& object) override;
  void watch(std::function<void(const std::string& name)> changed) override;
  Status publish_node(std::string_view name, const NodeInfo& node) override;
  Result<std::vector<NodeInfo>> nodes(std::string_view name) override;

 private:
  explicit RedisMeta(std::shared_ptr<RedisShared> shared);
  const std::shared_ptr<RedisShared> shared_;  // writers may outlive us
  std::unique_ptr<RedisWatcher> watcher_;
};

}  // namespace larder
