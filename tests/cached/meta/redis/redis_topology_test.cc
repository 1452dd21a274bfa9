// redis:// metadata behind Sentinel, in a Cluster and over TLS: real servers, a killed primary, a slot that moves.
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "cached/meta/open/open_meta.h"
#include "cached/meta/redis/redis_cluster.h"
#include "cached/meta/redis/redis_meta.h"
#include "tests/cached/meta/meta_fixture.h"
#include "tests/cached/meta/redis/redis_server.h"

namespace larder {
namespace {

using namespace larder::testing;
using Type = RedisReply::Type;

std::unique_ptr<Meta> open(const std::string& url) {
  auto meta = open_meta(url, "");
  EXPECT_TRUE(meta.ok()) << meta.error().message;
  return meta.ok() ? std::move(*meta) : nullptr;
}

template <typename F>
bool eventually(int ms, F condition) {
  for (const auto end = in_ms(ms); std::chrono::steady_clock::now() < end;
       std::this_thread::sleep_for(std::chrono::milliseconds(50)))
    if (condition()) return true;
  return false;
}

// ---- Sentinel -----------------------------------------------------------------------------------

class RedisSentinelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!have_redis()) GTEST_SKIP() << "there is no redis-server: apt-get install redis-server";
    const std::vector<std::string> secret = {
        "--requirepass", "pw-of-redis", "--masterauth", "pw-of-redis", "--repl-diskless-sync-delay", "0"};
    primary_ = std::make_unique<RedisServer>(secret);
    auto follow = secret;
    for (std::string word : {"--replicaof", "127.0.0.1"})
      follow.push_back(word);
    follow.push_back(std::to_string(primary_->port));
    replica_ = std::make_unique<RedisServer>(follow);
    for (int i = 0; i < 3; ++i)
      sentinels_.push_back(start_sentinel(i));
    ASSERT_TRUE(eventually(20'000, [&] { return info(*replica_).find("master_link_status:up") != std::string::npos; }));
    ASSERT_TRUE(eventually(20'000, [&] {
      auto known = sentinels_[0]->command({"SENTINEL", "MASTER", "mymaster"}, 0, "pw-of-sentinel");
      std::string replicas, others;
      for (size_t i = 0; i + 1 < known.items.size(); i += 2) {
        if (known.items[i].text == "num-slaves") replicas = known.items[i + 1].text;
        if (known.items[i].text == "num-other-sentinels") others = known.items[i + 1].text;
      }
      return replicas == "1" && others == "2";
    }));
  }

  static std::string info(RedisServer& server) {
    return server.command({"INFO", "replication"}, 0, "pw-of-redis").text;
  }

  std::unique_ptr<RedisServer> start_sentinel(int i) {
    const uint16_t port = free_port();
    const std::string file = dir_.path() + "/sentinel" + std::to_string(i) + ".conf";
    std::ofstream(file) << "port " << port << "\nbind 127.0.0.1\ndir " << dir_.path()
                        << "\nrequirepass pw-of-sentinel\nsentinel sentinel-pass pw-of-sentinel\n"
                        << "sentinel monitor mymaster 127.0.0.1 " << primary_->port
                        << " 2\nsentinel auth-pass mymaster pw-of-redis\n"
                        << "sentinel down-after-milliseconds mymaster 700\nsentinel failover-timeout mymaster 5000\n";
    return std::make_unique<RedisServer>(std::vector<std::string>{file, "--sentinel"}, port, false);
  }
  std::string url() const {
    std::string out = "redis://:pw-of-redis@mymaster";
    for (auto& s : sentinels_)
      out += ",127.0.0.1:" + std::to_string(s->port);
    return out + "/0?timeout=5000";
  }

  TempDir dir_;
  std::unique_ptr<RedisServer> primary_, replica_;
  std::vector<std::unique_ptr<RedisServer>> sentinels_;
};

TEST_F(RedisSentinelTest, AKilledPrimaryIsReplacedAndNothingIsLost) {
  EXPECT_EQ(open_meta(url(), "").error().code, EACCES) << "the sentinels want a password";
  setenv("SENTINEL_PASSWORD", "pw-of-sentinel", 1);
  auto meta = open(url());
  unsetenv("SENTINEL_PASSWORD");
  ASSERT_TRUE(meta);
  ASSERT_TRUE(meta->put_dataset(definition("a")).ok());
  const uint64_t first = publish(*meta, "a", 30'000, 1).version;
  ASSERT_TRUE(eventually(10'000, [&] {
    return replica_->command({"GET", "ds:{a}:cur"}, 0, "pw-of-redis").text == std::to_string(first);
  }));
  primary_->kill_now();
  auto now = meta->current("a");  // waits for the failover
  ASSERT_TRUE(now.ok()) << now.error().message;
  EXPECT_EQ((*now)->version, first);
  EXPECT_EQ(*count(*meta, "a", first, 1), 30'000u);
  const uint64_t second = publish(*meta, "a", 30'000, 2).version;
  EXPECT_GT(second, first);
  EXPECT_EQ(replica_->command({"GET", "ds:{a}:cur"}, 0, "pw-of-redis").text, std::to_string(second));
  sentinels_[0]->kill_now();
  EXPECT_EQ(current_version(*meta, "a"), second);
}

// ---- Cluster ------------------------------------------------------------------------------------

class RedisClusterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!have_redis()) GTEST_SKIP() << "there is no redis-server: apt-get install redis-server";
    for (int i = 0; i < 3; ++i)
      nodes_.push_back(std::make_unique<RedisServer>(std::vector<std::string>{
          "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "2000"}));
    for (int i = 0; i < 3; ++i) {
      const int first = i * 5461, last = i == 2 ? 16383 : first + 5460;
      nodes_[static_cast<size_t>(i)]->command(
          {"CLUSTER", "ADDSLOTSRANGE", std::to_string(first), std::to_string(last)});
      if (i > 0)
        nodes_[static_cast<size_t>(i)]->command({"CLUSTER", "MEET", "127.0.0.1", std::to_string(nodes_[0]->port)});
    }
    ASSERT_TRUE(eventually(30'000, [&] {
      for (auto& node : nodes_)
        if (node->command({"CLUSTER", "INFO"}).text.find("cluster_state:ok") == std::string::npos) return false;
      return true;
    }));
  }
  RedisServer& owner(const std::string& key) const { return *nodes_[std::min<size_t>(cluster_slot(key) / 5461, 2)]; }
  std::string id(RedisServer& node) const { return node.command({"CLUSTER", "MYID"}).text; }

  std::vector<std::unique_ptr<RedisServer>> nodes_;
};

TEST_F(RedisClusterTest, DatasetsSpreadAndAreFoundFromAnyNode) {
  auto meta = open("redis://127.0.0.1:" + std::to_string(nodes_[0]->port) +
                   ",127.0.0.1:" + std::to_string(nodes_[1]->port) + "/0");
  std::set<RedisServer*> owners;
  for (const char* name : {"a", "b", "c", "d", "e", "f"}) {
    ASSERT_TRUE(meta->put_dataset(definition(name)).ok());
    publish(*meta, name, 100);
    owners.insert(&owner(std::string("ds:{") + name + "}:cur"));
  }
  EXPECT_EQ(owners.size(), 3u);
  for (auto& node : nodes_) {
    auto other = open(node->url());  // one address is enough
    EXPECT_EQ(other->datasets()->size(), 6u);
    for (const char* name : {"a", "b", "c", "d", "e", "f"})
      EXPECT_EQ(*count(*other, name, current_version(*other, name)), 100u);
  }
  auto elsewhere = open(nodes_[0]->url("/1"));
  EXPECT_TRUE(elsewhere->datasets()->empty()) << "another database number is another namespace, in a Cluster, too";
}

TEST_F(RedisClusterTest, ASlotThatMovesWhileItIsUsed) {
  auto meta = open(nodes_[0]->url());
  ASSERT_TRUE(meta->put_dataset(definition("a")).ok());
  const uint64_t first = publish(*meta, "a", 50'000, 1).version;
  const std::string slot = std::to_string(cluster_slot("ds:{a}:cur"));
  RedisServer& from = owner("ds:{a}:cur");
  RedisServer& to = &from == nodes_[2].get() ? *nodes_[0] : *nodes_[2];
  to.command({"CLUSTER", "SETSLOT", slot, "IMPORTING", id(from)});
  from.command({"CLUSTER", "SETSLOT", slot, "MIGRATING", id(to)});
  // One key at a time, as redis-cli --cluster reshard does; reads go on between them (ASK, and MOVED at the end).
  auto keys = from.command({"CLUSTER", "GETKEYSINSLOT", slot, "1000"}).items;
  ASSERT_GT(keys.size(), 5u);
  for (auto& key : keys) {
    auto moved = from.command({"MIGRATE", "127.0.0.1", std::to_string(to.port), key.text, "0", "5000"});
    ASSERT_EQ(moved.text, "OK");
    EXPECT_EQ(*count(*meta, "a", first, 1), 50'000u);
    EXPECT_EQ(current_version(*meta, "a"), first);
  }
  std::thread finish([&] {
    EXPECT_TRUE(eventually(60'000, [&] {
      return to.command({"INFO", "errorstats"}).text.find("errorstat_TRYAGAIN") != std::string::npos;
    })) << "the publisher met no slot on its way";
    for (RedisServer* node : {&to, &from, nodes_[1].get(), nodes_[0].get(), nodes_[2].get()})
      node->command({"CLUSTER", "SETSLOT", slot, "NODE", id(to)});
  });
  const uint64_t second =
      publish(*meta, "a", 50'000, 2).version;  // scripts over several keys: TRYAGAIN until the slot has moved
  finish.join();
  EXPECT_GT(second, first);
  EXPECT_EQ(*count(*open(nodes_[1]->url()), "a", second, 2), 50'000u);
  EXPECT_EQ(to.command({"GET", "ds:{a}:cur"}).text, std::to_string(second));
}

TEST_F(RedisClusterTest, ANodeThatIsGoneCostsItsDatasetsOnly) {
  auto meta = open(nodes_[0]->url("/0?timeout=500"));
  for (const char* name : {"a", "b", "c", "d", "e", "f"})
    ASSERT_TRUE(meta->put_dataset(definition(name)).ok());
  nodes_[2]->command({"CONFIG", "SET", "cluster-require-full-coverage", "no"});
  nodes_[0]->command({"CONFIG", "SET", "cluster-require-full-coverage", "no"});
  nodes_[1]->kill_now();
  int served = 0, lost = 0;
  for (const char* name : {"a", "b", "c", "d", "e", "f"}) {
    const bool gone = &owner(std::string("ds:{") + name + "}:cur") == nodes_[1].get();
    auto now = meta->current(name);
    EXPECT_EQ(now.ok(), !gone) << name << (now.ok() ? "" : now.error().message);
    (now.ok() ? served : lost)++;
  }
  EXPECT_GT(served, 0);
  EXPECT_GT(lost, 0);
}

TEST_F(RedisClusterTest, AMessageReachesNodesOnOtherShards) {
  auto meta = open(nodes_[0]->url());
  ASSERT_TRUE(meta->put_dataset(definition("a")).ok());
  std::atomic<int> heard{0};
  publish(*meta, "a", 10);
  auto other = open(nodes_[1]->url());
  other->watch([&](const std::string& name) { heard += name == "a"; });
  ASSERT_TRUE(eventually(60'000, [&] { return heard >= 1; })) << "the first poll, which follows the subscription";
  publish(*meta, "a", 10, 2);
  EXPECT_TRUE(eventually(60'000, [&] { return heard >= 3; })) << "the message, and the poll";
}

// ---- TLS ----------------------------------------------------------------------------------------

class RedisTlsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!have_redis()) GTEST_SKIP() << "there is no redis-server: apt-get install redis-server";
    if (system("command -v openssl >/dev/null") != 0) GTEST_SKIP() << "there is no openssl to make certificates with";
    const std::string d = dir_.path();
    const std::string script =
        "cd '" + d +
        "' && exec >/dev/null 2>&1 && "
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=larder-test-ca && "
        "openssl req -newkey rsa:2048 -nodes -keyout redis.key -out redis.csr -subj /CN=localhost && "
        "printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\\n' >ext && "
        "openssl x509 -req -in redis.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out redis.pem -days 2 -extfile ext "
        "&& "
        "openssl req -newkey rsa:2048 -nodes -keyout client.key -out client.csr -subj /CN=node && "
        "openssl x509 -req -in client.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out client.pem -days 2 && "
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.pem -days 2 -subj /CN=other-ca";
    ASSERT_EQ(system(script.c_str()), 0);
  }
  std::unique_ptr<RedisServer> start(const std::string& auth_clients) {
    const std::string d = dir_.path();
    const uint16_t port = free_port();
    std::vector<std::string> words;
    for (const std::string& w :
         {std::string("--port"), std::string("0"), std::string("--tls-port"), std::to_string(port),
          std::string("--bind"), std::string("127.0.0.1"), std::string("--save"), std::string(""),
          std::string("--tls-cert-file"), d + "/redis.pem", std::string("--tls-key-file"), d + "/redis.key",
          std::string("--tls-ca-cert-file"), d + "/ca.pem", std::string("--tls-auth-clients"), auth_clients})
      words.push_back(w);
    return std::make_unique<RedisServer>(words, port, false);
  }
  std::string url(const RedisServer& server, const std::string& options, const std::string& host = "127.0.0.1") const {
    return "rediss://" + host + ":" + std::to_string(server.port) + "/0?timeout=3000" + options;
  }
  std::string ca() const { return "&tls-ca-cert-file=" + dir_.path() + "/ca.pem"; }

  TempDir dir_;
};

TEST_F(RedisTlsTest, ATrustedServerIsUsedAndAnotherIsNot) {
  auto server = start("no");
  for (const char* host : {"127.0.0.1", "localhost"}) {
    auto meta = open(url(*server, ca(), host));
    ASSERT_TRUE(meta->put_dataset(definition("a")).ok());
    const uint64_t version = publish(*meta, "a", 50'000).version;
    EXPECT_EQ(*count(*meta, "a", version), 50'000u);
  }
  for (const std::string& options : {std::string(""), "&tls-ca-cert-file=" + dir_.path() + "/other.pem",
                                     ca() + "&tls-server-name=elsewhere.example"}) {
    auto meta = open_meta(url(*server, options), "");
    ASSERT_FALSE(meta.ok()) << options;
    EXPECT_EQ(meta.error().code, EACCES);
    EXPECT_NE(meta.error().message.find("certificate"), std::string::npos) << meta.error().message;
  }
  EXPECT_EQ(open(url(*server, "&insecure-skip-verify=true"))->datasets()->size(), 1u);
  EXPECT_EQ(open_meta(url(*server, "&tls-ca-cert-file=/nonexistent"), "").error().code, EINVAL);
}

TEST_F(RedisTlsTest, AServerThatWantsACertificateGetsIt) {
  auto server = start("yes");
  auto bare = open_meta(url(*server, ca()), "");
  EXPECT_FALSE(bare.ok() && (*bare)->datasets().ok());
  auto meta = open(
      url(*server, ca() + "&tls-cert-file=" + dir_.path() + "/client.pem&tls-key-file=" + dir_.path() + "/client.key"));
  EXPECT_TRUE(meta->put_dataset(definition("a")).ok());
}

TEST_F(RedisTlsTest, PlainAndTlsDoNotTalk) {
  RedisServer plain;
  auto meta = open_meta(url(plain, ca() + "&timeout=300"), "");
  EXPECT_FALSE(meta.ok() && (*meta)->datasets().ok());
}

TEST_F(RedisTlsTest, ASubscriptionOverTlsHears) {
  auto server = start("no");
  auto meta = open(url(*server, ca()));
  ASSERT_TRUE(meta->put_dataset(definition("a")).ok());
  std::atomic<int> heard{0};
  publish(*meta, "a", 10);
  auto other = open(url(*server, ca()));
  other->watch([&](const std::string&) { ++heard; });
  ASSERT_TRUE(eventually(60'000, [&] { return heard >= 1; })) << "the first poll, which follows the subscription";
  publish(*meta, "a", 10, 2);
  EXPECT_TRUE(eventually(60'000, [&] { return heard >= 3; })) << "the message, and the poll";
}

}  // namespace
}  // namespace larder
