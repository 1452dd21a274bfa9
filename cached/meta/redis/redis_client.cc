#include "cached/meta/redis/redis_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "cached/base/text.h"
#include "cached/meta/redis/redis_sentinel.h"

namespace larder {
namespace {

using Clock = std::chrono::steady_clock;
using Type = RedisReply::Type;

constexpr int kPatience = 3;        // times the timeout of one attempt: 15 s unless set
constexpr size_t kIdlePerNode = 4;  // larderd's few workers; more are closed
constexpr auto kFirstPause = std::chrono::milliseconds(20), kLongestPause = std::chrono::milliseconds(500);

bool passes(const Error& e) {
  return e.code != EACCES && e.code != EINVAL && e.code != ENOSPC && e.code != ENOMEM;
}

}  // namespace

// Pauses that grow, with a random part, so that nodes that lost one Redis do not return at the same moment.
class RedisClient::Backoff {
 public:
  explicit Backoff(Deadline deadline) : deadline_(deadline) {}
  // False: no time is left for another attempt.
  bool pause() {
    thread_local std::minstd_rand random(std::random_device{}());
    const auto nap = pause_ / 2 + std::chrono::milliseconds(random() % static_cast<unsigned>(pause_.count() / 2 + 1));
    if (Clock::now() + nap >= deadline_) return false;
    std::this_thread::sleep_for(nap);
    pause_ = std::min<std::chrono::milliseconds>(pause_ * 2, kLongestPause);
    return true;
  }

 private:
  const Deadline deadline_;
  std::chrono::milliseconds pause_{kFirstPause};
};

RedisClient::RedisClient(RedisUrl url) : url_(std::move(url)) {
  if (!url_.master.empty()) mode_ = Mode::kSentinel;
}

RedisLogin RedisClient::login() const {
  return {url_.user, url_.password, mode_ == Mode::kCluster ? 0 : url_.db, url_.tls};
}

// ---- connections --------------------------------------------------------------------------------

std::unique_ptr<RedisConnection> RedisClient::idle_at(const RedisEndpoint& endpoint) {
  MutexLock lock(mutex_);
  auto it = idle_.find(endpoint.text());
  if (it == idle_.end() || it->second.empty()) return nullptr;
  auto connection = std::move(it->second.back());
  it->second.pop_back();
  return connection;
}

void RedisClient::give_back(std::unique_ptr<RedisConnection> connection) {
  if (connection->broken()) return;
  MutexLock lock(mutex_);
  auto& idle = idle_[connection->endpoint().text()];
  if (idle.size() < kIdlePerNode) idle.push_back(std::move(connection));
}

void RedisClient::forget() {
  MutexLock lock(mutex_);
  idle_.clear();
  master_.reset();
  slots_known_ = false;
}

Result<std::unique_ptr<RedisConnection>> RedisClient::take_at(const RedisEndpoint& endpoint, Deadline deadline) {
  if (auto idle = idle_at(endpoint)) return idle;
  return RedisConnection::connect(endpoint, login(), deadline);
}

// A Redis that answers CLUSTER INFO with a text is a node of a Cluster. The login must not select a database there.
Status RedisClient::find_mode(Deadline deadline) {
  Error last;
  for (const RedisEndpoint& endpoint : url_.endpoints) {
    RedisLogin plain = login();
    plain.db = 0;
    auto connection = RedisConnection::connect(endpoint, plain, deadline);
    auto info = connection ? (*connection)->call(RedisCommand("CLUSTER").add("INFO"), deadline)
                           : Result<RedisReply>(connection.error());
    if (!info) {
      last = info.error();
      continue;
    }
    if (info->is(Type::kError) && redis_error_kind(info->text) == "NOAUTH")
      return make_error(
          EACCES, fmt::format("Redis at {}: it wants a password; set REDIS_PASSWORD or write it into the metadata URL",
                              endpoint.text()));
    const bool cluster = info->is_text() && info->text.find("cluster_state:") != std::string::npos;
    if (!cluster && url_.endpoints.size() > 1)
      return make_error(
          EINVAL,
          fmt::format(
              "Redis at {} is no Cluster; several hosts are nodes of a Cluster, or MASTER,SENTINEL1,SENTINEL2:26379",
              endpoint.text()));
    mode_ = cluster ? Mode::kCluster : Mode::kSingle;
    return {};
  }
  return last;
}

Status RedisClient::learn_slots(Deadline deadline) {
  std::vector<RedisEndpoint> seeds;
  {
    MutexLock lock(mutex_);
    if (slots_known_) return {};
    seeds = slots_.nodes();
  }
  seeds.insert(seeds.end(), url_.endpoints.begin(), url_.endpoints.end());
  Error last;
  for (const RedisEndpoint& seed : seeds) {
    auto connection = take_at(seed, deadline);
    auto reply = connection ? (*connection)->call(RedisCommand("CLUSTER").add("SLOTS"), deadline)
                            : Result<RedisReply>(connection.error());
    if (connection) give_back(std::move(*connection));
    MutexLock lock(mutex_);
    const Status learned = reply ? slots_.update(*reply, seed) : Status(reply.error());
    if (learned) {
      slots_known_ = true;
      return {};
    }
    last = learned.error();
  }
  return last;
}

Result<RedisEndpoint> RedisClient::node_for(const std::string& key, Deadline deadline) {
  if (mode_ == Mode::kSingle) return url_.endpoints.front();
  if (auto status = learn_slots(deadline); !status) return status.error();
  MutexLock lock(mutex_);
  if (key.empty() && !slots_.nodes().empty()) return slots_.nodes().front();
  auto node = slots_.find(cluster_slot(key));
  if (node) return *node;
  slots_known_ = false;
  return make_error(EAGAIN, "Redis: no node of the Cluster serves the slot now");
}

Result<std::unique_ptr<RedisConnection>> RedisClient::take(const std::string& key, Deadline deadline) {
  if (mode_ == Mode::kUnknown)
    if (auto status = find_mode(deadline); !status) return status.error();
  if (mode_ != Mode::kSentinel) {
    auto node = node_for(key, deadline);
    return node ? take_at(*node, deadline) : Result<std::unique_ptr<RedisConnection>>(node.error());
  }
  std::optional<RedisEndpoint> master;
  {
    MutexLock lock(mutex_);
    master = master_;
  }
  if (master)
    if (auto idle = idle_at(*master)) return idle;
  auto connection = connect_to_master(url_, login(), deadline);
  if (!connection) return connection;
  MutexLock lock(mutex_);
  master_ = (*connection)->endpoint();
  return connection;
}

Result<std::unique_ptr<RedisConnection>> RedisClient::dedicated(Deadline deadline) {
  if (mode_ == Mode::kUnknown)
    if (auto status = find_mode(deadline); !status) return status.error();
  if (mode_ == Mode::kSentinel) return connect_to_master(url_, login(), deadline);
  auto node = node_for("", deadline);
  if (!node) return node.error();
  return RedisConnection::connect(*node, login(), deadline);
}

// ---- attempts -----------------------------------------------------------------------------------

RedisClient::Attempt RedisClient::judge(RedisReply reply, const RedisEndpoint& from,
                                        std::optional<RedisEndpoint>* ask) {
  if (!reply.is(Type::kError)) return {Next::kDone, std::move(reply), {}};
  const std::string_view kind = redis_error_kind(reply.text);
  const std::string text = fmt::format("Redis at {}: {}", printable(from.text()), printable(reply.text));
  if (auto redirection = parse_redirection(reply.text, from)) {
    if (redirection->ask) {
      *ask = redirection->to;
    } else {
      mode_ = Mode::kCluster;
      MutexLock lock(mutex_);
      slots_.move(redirection->slot, redirection->to);
    }
    return {Next::kAgain, {}, make_error(EAGAIN, text)};
  }
  for (const char* soon : {"TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY", "BUSY", "NOREPLICAS"})
    if (kind == soon) return {Next::kWait, {}, make_error(EAGAIN, text)};
  if (kind == "OOM") return {Next::kFail, {}, make_error(ENOSPC, text + "; give it more memory (maxmemory)")};
  for (const char* refused : {"NOAUTH", "NOPERM", "WRONGPASS"})
    if (kind == refused) return {Next::kFail, {}, make_error(EACCES, text)};
  return {Next::kFail, {}, make_error(EIO, text)};
}

RedisClient::Attempt RedisClient::attempt(const RedisCommand& command, std::optional<RedisEndpoint>* ask,
                                          Deadline deadline) {
  const std::optional<RedisEndpoint> asked = std::exchange(*ask, std::nullopt);
  auto connection = asked ? take_at(*asked, deadline) : take(command.routing_key(), deadline);
  if (!connection) return {passes(connection.error()) ? Next::kWait : Next::kFail, {}, connection.error()};
  if (asked)
    if (auto reply = (*connection)->call(RedisCommand("ASKING"), deadline); !reply)
      return {Next::kWait, {}, reply.error()};
  auto reply = (*connection)->call(command, deadline);
  if (!reply) return {Next::kWait, {}, reply.error()};
  Attempt out = judge(std::move(*reply), (*connection)->endpoint(), ask);
  give_back(std::move(*connection));
  return out;
}

Error RedisClient::exhausted(const Error& last) const {
  return make_error(last.code == EAGAIN ? ETIMEDOUT : last.code, last.message);
}

Result<RedisReply> RedisClient::run(const RedisCommand& command) {
  const auto timeout = std::chrono::milliseconds(url_.timeout_ms);
  const Deadline end = Clock::now() + timeout * (away_ ? 1 : kPatience);
  Backoff backoff(end);
  std::optional<RedisEndpoint> ask;
  const bool one_only = away_;
  for (int redirections = 0;;) {
    Attempt a = attempt(command, &ask, std::min(end, Clock::now() + timeout));
    if (a.next == Next::kDone) {
      away_ = false;
      return std::move(a.reply);
    }
    if (a.next == Next::kFail) return a.error;
    // Nodes that redirect to each other must not make this spin.
    if (a.next == Next::kAgain && ++redirections % 8 != 0) continue;
    if (a.next == Next::kWait) forget();  // the master or the slot's owner may be another node now
    if (one_only || stopping_ || !backoff.pause()) {
      away_ = true;
      return exhausted(a.error);
    }
  }
}

Result<std::vector<RedisReply>> RedisClient::run_all(const std::vector<RedisCommand>& commands) {
  std::vector<RedisReply> out;
  if (commands.empty()) return out;
  const Deadline deadline = Clock::now() + std::chrono::milliseconds(url_.timeout_ms);
  std::vector<std::optional<RedisReply>> got(commands.size());
  auto connection = away_ ? Result<std::unique_ptr<RedisConnection>>(make_error(EAGAIN, ""))
                          : take(commands.front().routing_key(), deadline);
  if (connection) {
    bool good = true;
    for (size_t i = 0; good && i < commands.size(); ++i)
      good = (*connection)->send(commands[i], deadline).ok();
    for (size_t i = 0; good && i < commands.size(); ++i) {
      auto reply = (*connection)->receive(deadline);
      good = reply.ok();
      if (good && !reply->is(Type::kError)) got[i] = std::move(*reply);
    }
    give_back(std::move(*connection));
  }
  for (size_t i = 0; i < commands.size(); ++i) {  // retries those that failed, one by one
    if (!got[i]) {
      auto reply = run(commands[i]);
      if (!reply) return reply.error();
      got[i] = std::move(*reply);
    }
    out.push_back(std::move(*got[i]));
  }
  return out;
}

}  // namespace larder
