#include "cached/meta/redis/redis_watch.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "cached/meta/definition.h"
#include "cached/meta/redis/redis_values.h"

namespace larder {

using Clock = std::chrono::steady_clock;
using Type = RedisReply::Type;

static constexpr auto kSlice = std::chrono::milliseconds(100);  // the destructor waits for one
static constexpr auto kPoll = std::chrono::seconds(3);
static constexpr auto kPing = std::chrono::seconds(10);  // notices a peer that vanished, keeps a middlebox open
static constexpr auto kRetryFirst = std::chrono::milliseconds(250), kRetryLongest = std::chrono::milliseconds(5000);

RedisWatcher::RedisWatcher(RedisMeta& meta, std::shared_ptr<RedisShared> shared,
                           std::function<void(const std::string&)> changed)
    : meta_(meta), shared_(std::move(shared)), changed_(std::move(changed)), thread_([this] { run(); }) {}

RedisWatcher::~RedisWatcher() {
  stopping_ = true;
  thread_.join();
}

void RedisWatcher::run() {
  auto retry = kRetryFirst;
  Deadline next_poll = Clock::now(), next_try = Clock::now();
  while (!stopping_) {
    if (!subscription_ && Clock::now() >= next_try) {
      const bool subscribed = subscribe();
      retry = subscribed ? kRetryFirst : std::min(retry * 2, kRetryLongest);
      next_try = Clock::now() + retry;
      if (subscribed) next_poll = Clock::now();  // what was published in between
    }
    if (Clock::now() >= next_poll) {
      poll();
      next_poll = Clock::now() + kPoll;
    }
    if (subscription_)
      listen(std::min(next_poll, Clock::now() + kSlice));
    else
      std::this_thread::sleep_for(kSlice);
  }
}

bool RedisWatcher::subscribe() {
  const Deadline deadline = Clock::now() + std::chrono::milliseconds(shared_->client.url().timeout_ms);
  if (!shared_->ready()) return false;
  auto connection = shared_->client.dedicated(deadline);
  if (!connection) return false;
  auto reply = (*connection)->call(RedisCommand("SUBSCRIBE").add(shared_->keys().changes()), deadline);
  if (!reply) return false;
  if (!reply->is(Type::kArray)) {
    spdlog::warn("metadata: Redis does not let us subscribe; new versions are noticed by asking every {} s",
                 kPoll.count());
    return false;
  }
  subscription_ = std::move(*connection);
  last_ping_ = Clock::now();
  return true;
}

void RedisWatcher::listen(Deadline until) {
  auto reply = subscription_->receive(until);
  if (!reply && reply.error().code == ETIMEDOUT && !subscription_->broken()) {
    if (Clock::now() - last_ping_ < kPing) return;
    last_ping_ = Clock::now();
    const Deadline deadline = Clock::now() + std::chrono::milliseconds(shared_->client.url().timeout_ms);
    // A message may come before the PONG; it is handled like any other.
    if (!subscription_->send(RedisCommand("PING"), deadline))
      subscription_.reset();
    else
      reply = subscription_->receive(deadline);
    if (!subscription_) return;
  }
  if (!reply) {
    subscription_.reset();
    return;
  }
  // ["message", channel, name]
  if (reply->is(Type::kArray) && reply->items.size() == 3 && reply->items[0].text == "message" &&
      valid_dataset_name(reply->items[2].text))
    changed_(reply->items[2].text);
}

void RedisWatcher::poll() {
  auto defs = meta_.datasets();
  if (!defs) return;
  for (const DatasetDef& def : *defs) {
    if (stopping_) return;
    auto info = meta_.current(def.name);
    if (!info || !*info) continue;
    uint64_t& seen = seen_[def.name];
    if (std::exchange(seen, (*info)->version) != (*info)->version) changed_(def.name);
  }
}

}  // namespace larder
