// Notices versions that other processes publish: a subscription, and a poll in case a message was lost. Calls `changed`
// on its own thread, which the destructor joins.
#pragma once
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "cached/meta/redis/redis_meta.h"

namespace larder {

class RedisWatcher {
 public:
  RedisWatcher(RedisMeta& meta, std::shared_ptr<RedisShared> shared, std::function<void(const std::string&)> changed);
  ~RedisWatcher();  // joins

 private:
  void run();
  bool subscribe();
  void listen(Deadline until);
  void poll();

  RedisMeta& meta_;
  const std::shared_ptr<RedisShared> shared_;
  const std::function<void(const std::string&)> changed_;
  std::unique_ptr<RedisConnection> subscription_;
  Deadline last_ping_;
  std::map<std::string, uint64_t> seen_;  // current versions at the last poll
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace larder
