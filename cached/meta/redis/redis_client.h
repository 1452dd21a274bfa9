// Sends commands to a Redis: standalone, behind Sentinel, or a Cluster. Keeps connections and makes them again.
//
// Every command is retried until its patience is over, so every command must be safe to run twice. Waiting is bounded:
// at the start, and after Redis was away for a whole patience, each command makes one attempt, until one succeeds.
// Errors: EACCES (login, permissions), ENOSPC (Redis is out of memory), EIO and connection errors for the rest; the
// message says which Redis and what it answered. Threads: any.
#pragma once
#include <atomic>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cached/base/mutex.h"
#include "cached/meta/redis/redis_cluster.h"
#include "cached/meta/redis/redis_connection.h"

namespace larder {

class RedisClient {
 public:
  explicit RedisClient(RedisUrl url);
  // Blocks. The reply, or an Error for an error reply.
  Result<RedisReply> run(const RedisCommand& command);
  // As many replies as commands; all keys must be in one slot. The commands are sent at once, so pass few large ones at
  // a time.
  Result<std::vector<RedisReply>> run_all(const std::vector<RedisCommand>& commands);
  // A connection of the caller's own (to any node of a Cluster), for a subscription.
  Result<std::unique_ptr<RedisConnection>> dedicated(Deadline deadline);
  // From now on nothing waits for another attempt.
  void stop() { stopping_ = true; }
  const RedisUrl& url() const { return url_; }
  bool is_cluster() const { return mode_ == Mode::kCluster; }

 private:
  enum class Mode { kUnknown, kSingle, kSentinel, kCluster };
  // What to do after a reply or a failure.
  enum class Next { kDone, kAgain, kWait, kFail };
  struct Attempt {
    Next next = Next::kFail;
    RedisReply reply;
    Error error;
  };
  class Backoff;

  Attempt attempt(const RedisCommand& command, std::optional<RedisEndpoint>* ask, Deadline deadline);
  Attempt judge(RedisReply reply, const RedisEndpoint& from, std::optional<RedisEndpoint>* ask);
  Result<std::unique_ptr<RedisConnection>> take(const std::string& key, Deadline deadline);
  Result<std::unique_ptr<RedisConnection>> take_at(const RedisEndpoint& endpoint, Deadline deadline);
  std::unique_ptr<RedisConnection> idle_at(const RedisEndpoint& endpoint);
  void give_back(std::unique_ptr<RedisConnection> connection);
  Status find_mode(Deadline deadline);
  Result<RedisEndpoint> node_for(const std::string& key, Deadline deadline);
  Status learn_slots(Deadline deadline);
  void forget();
  RedisLogin login() const;
  Error exhausted(const Error& last) const;

  const RedisUrl url_;
  std::atomic<Mode> mode_{Mode::kUnknown};
  std::atomic<bool> away_{true};  // until it answered once, so that a start fails soon
  std::atomic<bool> stopping_{false};
  Mutex mutex_;  // never held over the network
  std::map<std::string, std::vector<std::unique_ptr<RedisConnection>>> idle_ GUARDED_BY(mutex_);
  std::optional<RedisEndpoint> master_ GUARDED_BY(mutex_);
  SlotMap slots_ GUARDED_BY(mutex_);
  bool slots_known_ GUARDED_BY(mutex_) = false;
};

}  // namespace larder
