// redis:// metadata on a real, standalone Redis: its faults, and what nodes rely on from each other.
#include "cached/meta/redis/redis_meta.h"

#include <gtest/gtest.h>

#include <thread>

#include <condition_variable>
#include <mutex>
#include <set>

#include "cached/meta/open/open_meta.h"
#include "cached/meta/redis/redis_writer.h"
#include "tests/cached/meta/meta_fixture.h"
#include "tests/cached/meta/redis/redis_server.h"

namespace larder {
namespace {

using namespace larder::testing;
using Clock = std::chrono::steady_clock;
using Type = RedisReply::Type;

auto nothing = [](ObjectInfo&&) -> Status { return {}; };

class RedisMetaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!have_redis()) GTEST_SKIP() << "there is no redis-server: apt-get install redis-server";
    server_ = std::make_unique<RedisServer>(std::vector<std::string>{"--unixsocket", socket()});
    meta_ = open(server_->url("/0?timeout=1000"));
    ASSERT_TRUE(meta_->put_dataset(definition("a")).ok());
  }
  std::string socket() const { return dir_.path() + "/redis.sock"; }
  static std::unique_ptr<Meta> open(const std::string& url) {
    auto meta = open_meta(url, "");
    EXPECT_TRUE(meta.ok()) << meta.error().message;
    return meta.ok() ? std::move(*meta) : nullptr;
  }
  std::string key(const std::string& what) const { return "ds:{a}:" + what; }

  TempDir dir_;
  std::unique_ptr<RedisServer> server_;
  std::unique_ptr<Meta> meta_;
};

// ---- publishing ---------------------------------------------------------------------------------

TEST_F(RedisMetaTest, KilledBeforeEachStepThereIsAWholeVersion) {
  const uint64_t first = publish(*meta_, "a", 20'000, 1).version;
  int killed = 0;
  for (const std::string step : {"segment", "lock", "reserve", "describe", "publish", "drop", "unlock"}) {
    const uint64_t before = current_version(*meta_, "a");
    const pid_t child = fork();
    if (child == 0) {
      auto meta = RedisMeta::open(server_->url(), [&](const char* name) {
        if (step == name) kill(getpid(), SIGKILL);
      });
      (void)try_publish(**meta, "a", 20'000, 2);
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << step;
    ++killed;
    const bool published = step == "drop" || step == "unlock";
    const uint64_t now = current_version(*meta_, "a");
    EXPECT_EQ(now > before, published) << step;
    EXPECT_EQ(*count(*meta_, "a", now, now == first ? 1 : 2), 20'000u) << step;
    // The lock of the dead publisher expires by itself; the test does not wait for its 30 s.
    const RedisReply lock = server_->command({"PTTL", key("lock")});
    EXPECT_LE(lock.integer, 30'000);
    EXPECT_NE(lock.integer, -1) << "a lock without end";
    server_->command({"DEL", key("lock")});
    // Segments that it left and no version names expire, too.
    std::set<std::string> held;
    for (auto& name : server_->keys("ds:{a}:*"))
      if (server_->command({"TTL", name}).integer == -1) held.insert(name);
    EXPECT_EQ(held.count(key("def")), 1u);
    EXPECT_LE(held.size(), 3 + 2 * 2 + 2 * 3u)
        << step;  // def cur versions; two versions of 2 keys and at most 3 segments
  }
  EXPECT_EQ(killed, 7);
  EXPECT_GT(publish(*meta_, "a", 20'000, 3).version, first);
}

TEST_F(RedisMetaTest, APublisherThatLostItsLockPublishesNothing) {
  publish(*meta_, "a", 10, 1);
  const uint64_t before = current_version(*meta_, "a");
  auto slow = RedisMeta::open(server_->url(), [&](const char* step) {
    if (std::string(step) == "publish") server_->command({"SET", key("lock"), "somebody-else"});
  });
  auto info = try_publish(**slow, "a", 10, 2);
  ASSERT_FALSE(info.ok());
  EXPECT_EQ(info.error().code, EAGAIN);
  EXPECT_EQ(current_version(*meta_, "a"), before);
  EXPECT_EQ(server_->command({"GET", key("lock")}).text, "somebody-else") << "another's lock is not taken away";
}

TEST_F(RedisMetaTest, VersionsShareWhatDidNotChange) {
  publish(*meta_, "a", 200'000);
  const size_t before = server_->keys("ds:{a}:seg:*").size();
  auto writer = meta_->write_version("a");
  for (uint64_t i = 0; i < 200'000; ++i) {
    ASSERT_TRUE((*writer)->add(object_of(i)).ok());
    if (i == 70'000) {
      ASSERT_TRUE((*writer)->add({key_of(i) + ".new", 5, 0, "e"}).ok());
    }
  }
  ASSERT_TRUE((*writer)->commit(0).ok());
  const size_t after = server_->keys("ds:{a}:seg:*").size();
  EXPECT_GE(before, 12u);
  EXPECT_LE(after, before + 3) << "one insertion must not move what follows";
}

TEST_F(RedisMetaTest, SegmentsOfTheCurrentVersionNeverExpire) {
  for (uint64_t seed = 1; seed <= 4; ++seed)
    publish(*meta_, "a", 30'000, seed % 2);  // versions that come back share all
  int held = 0, expiring = 0;
  for (auto& name : server_->keys("ds:{a}:seg:*"))
    (server_->command({"TTL", name}).integer == -1 ? held : expiring)++;
  EXPECT_GE(held, 4);
  EXPECT_EQ(expiring, 0);
  publish(*meta_, "a", 10, 7);
  publish(*meta_, "a", 10, 8);
  for (auto& name : server_->keys("ds:{a}:seg:*"))
    expiring += server_->command({"TTL", name}).integer > 0;
  EXPECT_GE(expiring, held) << "what no version names any more goes";
}

TEST_F(RedisMetaTest, AVersionThatALiveNodeServesIsKept) {
  const uint64_t old = publish(*meta_, "a", 20'000, 1).version;
  ASSERT_TRUE(meta_->publish_node("a", {"n1", old, 1, 1, 0}).ok());
  for (uint64_t seed = 2; seed <= 5; ++seed)
    publish(*meta_, "a", 20'000, seed);
  EXPECT_EQ(*count(*meta_, "a", old, 1), 20'000u);
  server_->command({"DEL", key("nodes")});
  publish(*meta_, "a", 20'000, 6);
  EXPECT_EQ(count(*meta_, "a", old, 1).error().code, ENOENT);
}

TEST_F(RedisMetaTest, ANumberNeverComesBack) {
  const uint64_t first = publish(*meta_, "a", 10).version;
  ASSERT_TRUE(meta_->remove_dataset("a").ok());
  ASSERT_TRUE(meta_->put_dataset(definition("a")).ok());
  const uint64_t second = publish(*meta_, "a", 10).version;
  EXPECT_GT(second, first);
  std::this_thread::sleep_for(
      std::chrono::milliseconds(3));  // numbers begin at the time in ms; two in one run ahead of it
  server_->command({"FLUSHALL"});
  ASSERT_TRUE(meta_->put_dataset(definition("a")).ok());
  EXPECT_GT(publish(*meta_, "a", 10).version, second);
}

// ---- faults -------------------------------------------------------------------------------------

TEST_F(RedisMetaTest, ARestartedRedisIsUsedAgain) {
  const uint64_t version = publish(*meta_, "a", 100).version;
  auto saved = server_->command({"DUMP", key("def")});
  server_->kill_now();
  const auto start = Clock::now();
  EXPECT_FALSE(meta_->current("a").ok());
  const auto first = Clock::now() - start;
  EXPECT_LT(first, std::chrono::seconds(60));
  const auto again = Clock::now();
  auto down = meta_->current("a");
  ASSERT_FALSE(down.ok());
  EXPECT_EQ(down.error().code, ECONNREFUSED) << down.error().message;
  EXPECT_NE(down.error().message.find(std::to_string(server_->port)), std::string::npos);
  EXPECT_LT(Clock::now() - again, first / 2) << "patience is had once";
  server_->start();
  auto empty = meta_->current("a");
  ASSERT_TRUE(empty.ok()) << empty.error().message;
  EXPECT_FALSE(empty->has_value()) << "emptied, and said so";
  ASSERT_TRUE(meta_->put_dataset(definition("a")).ok());
  EXPECT_GT(publish(*meta_, "a", 100).version, version);
}

TEST_F(RedisMetaTest, ARedisThatComesBackInTimeIsWaitedFor) {
  // The server's parent is the thread that starts it, so that is this one.
  server_->kill_now();
  std::thread reader([&] {
    auto now = meta_->current("a");
    EXPECT_TRUE(now.ok()) << now.error().message;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(700));
  server_->start();
  reader.join();
}

TEST_F(RedisMetaTest, ASlowRedisIsAnErrorInBoundedTime) {
  server_->pause();
  const auto start = Clock::now();
  auto now = meta_->current("a");
  const auto took = Clock::now() - start;
  server_->resume();
  ASSERT_FALSE(now.ok());
  EXPECT_EQ(now.error().code, ETIMEDOUT) << now.error().message;
  EXPECT_LT(took, std::chrono::seconds(60));
  EXPECT_TRUE(meta_->current("a").ok());
}

TEST_F(RedisMetaTest, ARedisThatIsAwayAtTheStartIsNoReasonNotToStart) {
  const std::string url = server_->url("/0?timeout=100");
  server_->kill_now();
  auto meta = open(url);
  ASSERT_TRUE(meta);
  EXPECT_FALSE(meta->datasets().ok());
  server_->start();
  EXPECT_TRUE(meta->datasets().ok());
}

TEST_F(RedisMetaTest, OutOfMemoryIsSaidAndTheOldVersionStays) {
  const uint64_t version = publish(*meta_, "a", 20'000, 1).version;
  server_->command({"CONFIG", "SET", "maxmemory", "3mb"});
  auto info = try_publish(*meta_, "a", 200'000, 2);
  ASSERT_FALSE(info.ok());
  EXPECT_EQ(info.error().code, ENOSPC);
  EXPECT_NE(info.error().message.find("maxmemory"), std::string::npos) << info.error().message;
  server_->command({"CONFIG", "SET", "maxmemory", "0"});
  EXPECT_EQ(current_version(*meta_, "a"), version);
  EXPECT_EQ(*count(*meta_, "a", version, 1), 20'000u);
}

TEST_F(RedisMetaTest, LiesAreErrorsThatSayWhatToDo) {
  const uint64_t version = publish(*meta_, "a", 30'000).version;
  const std::string v = std::to_string(version), segment = server_->keys("ds:{a}:seg:*").front();
  const std::string bytes = server_->command({"GET", segment}).text;
  auto lie = [&](const std::vector<std::string>& command) {
    server_->command(command);
    auto status = meta_->load("a", version, nothing);
    EXPECT_EQ(status.error().code, EIO);
    EXPECT_NE(status.error().message.find("--restore"), std::string::npos) << status.error().message;
  };
  std::string flipped = bytes;
  flipped[bytes.size() / 2] = static_cast<char>(flipped[bytes.size() / 2] ^ 1);
  lie({"SET", segment, flipped});
  lie({"SET", segment, bytes.substr(0, 100)});
  lie({"SET", segment, ""});
  lie({"DEL", segment});
  // A refresh that finds the same objects repairs segments with other bytes.
  server_->command({"SET", segment, flipped});
  const uint64_t repaired = publish(*meta_, "a", 30'000).version;
  EXPECT_EQ(*count(*meta_, "a", repaired), 30'000u);
  const std::string dir = key(v + ":dir"), good_dir = server_->command({"GET", dir}).text;
  lie({"SET", dir, good_dir.substr(0, good_dir.size() - 1)});
  lie({"DEL", dir});
  server_->command({"SET", dir, good_dir});
  lie({"HSET", key(v + ":meta"), "objects", "29999"});
  lie({"HSET", key(v + ":meta"), "objects", "-1"});
  lie({"DEL", key(v + ":meta")});
  server_->command({"SET", key("cur"), "later"});
  EXPECT_EQ(meta_->current("a").error().code, EIO);
  server_->command({"SET", key("cur"), "77"});
  EXPECT_EQ(meta_->current("a").error().code, EIO) << "a version that is not described is not taken for no version";
  for (const char* field : {"id", "source", "options", "group", "schema"}) {
    server_->command({"HDEL", key("def"), field});
    EXPECT_EQ(meta_->get_dataset("a").error().code, EIO) << field;
    server_->command({"DEL", key("def")});
    ASSERT_TRUE(meta_->put_dataset(definition("a")).ok());
  }
  server_->command({"HSET", key("def"), "options", "[1]"});
  EXPECT_EQ(meta_->get_dataset("a").error().code, EIO);
  server_->command({"SET", key("def"), "no hash"});
  EXPECT_EQ(meta_->get_dataset("a").error().code, EIO);
  server_->command({"SADD", "larder:datasets", "b/../../c"});
  server_->command({"DEL", key("def")});
  EXPECT_TRUE(meta_->datasets()->empty());
}

TEST_F(RedisMetaTest, ANewerSchemaIsRefused) {
  server_->command({"SET", "larder:schema", "2"});
  auto meta = open_meta(server_->url(), "");
  ASSERT_FALSE(meta.ok());
  EXPECT_EQ(meta.error().code, EPROTO);
  EXPECT_NE(meta.error().message.find("newer larder (schema 2"), std::string::npos) << meta.error().message;
  server_->command({"SET", "larder:schema", "1"});
  server_->command({"HSET", key("def"), "schema", "9"});
  EXPECT_EQ(meta_->get_dataset("a").error().code, EPROTO);
  EXPECT_EQ(meta_->put_dataset(definition("a")).error().code, EPROTO) << "and is not written over";
}

// ---- what bytes a hostile peer may send ---------------------------------------------------------

class HostilePeer {
 public:
  explicit HostilePeer(std::string bytes) : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    bind(listener_, reinterpret_cast<sockaddr*>(&address), size);
    listen(listener_, 8);
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port = ntohs(address.sin_port);
    thread_ = std::thread([this, text = std::move(bytes)] {
      const int fd = accept(listener_, nullptr, nullptr);
      for (size_t at = 0; at < text.size();) {
        const ssize_t n = send(fd, text.data() + at, text.size() - at, MSG_NOSIGNAL);
        if (n <= 0) break;
        at += static_cast<size_t>(n);
      }
      char byte;
      while (recv(fd, &byte, 1, 0) > 0)
        continue;
      close(fd);
    });
  }
  ~HostilePeer() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }
  uint16_t port = 0;

 private:
  const int listener_;
  std::thread thread_;
};

TEST(RedisReplies, NonsenseIsAnErrorAndCostsNoMemory) {
  std::string deep;
  for (int i = 0; i < 20; ++i)
    deep += "*1\r\n";
  for (const std::string& bytes :
       {std::string("HTTP/1.1 400 Bad Request\r\n\r\n"), std::string("*2147483647\r\n"), std::string("*-5\r\n"),
        std::string("$9999999999999\r\n"), std::string("%1\r\n+a\r\n+b\r\n"), deep, std::string(100, '\0'),
        std::string("$5\r\nab")}) {
    HostilePeer peer(bytes);
    auto connection = RedisConnection::connect({"127.0.0.1", peer.port}, {}, in_ms(2000));
    ASSERT_TRUE(connection.ok());
    auto reply = (*connection)->call(RedisCommand("PING"), in_ms(300));
    EXPECT_FALSE(reply.ok()) << bytes.substr(0, 20);
    EXPECT_TRUE((*connection)->broken());
    connection = make_error(EIO, "");  // closes, so that the peer ends
  }
}

TEST(RedisReplies, AReplyWithoutEndIsCutOff) {
  HostilePeer peer("$500000000\r\n" + std::string(80 << 20, 'x'));
  auto connection = RedisConnection::connect({"127.0.0.1", peer.port}, {}, in_ms(2000));
  ASSERT_TRUE(connection.ok());
  auto reply = (*connection)->call(RedisCommand("PING"), in_ms(20'000));
  ASSERT_FALSE(reply.ok());
  EXPECT_NE(reply.error().message.find("too large"), std::string::npos) << reply.error().message;
  connection = make_error(EIO, "");
}

TEST(RedisReplies, NestedArraysComeBackAsTheyWere) {
  HostilePeer peer("*3\r\n*2\r\n:1\r\n*2\r\n$1\r\na\r\n$-1\r\n*0\r\n-ERR no\r\n");
  auto connection = RedisConnection::connect({"127.0.0.1", peer.port}, {}, in_ms(2000));
  ASSERT_TRUE(connection.ok());
  auto reply = (*connection)->call(RedisCommand("X"), in_ms(2000));
  ASSERT_TRUE(reply.ok()) << reply.error().message;
  ASSERT_EQ(reply->items.size(), 3u);
  EXPECT_EQ(reply->items[0].items[0].integer, 1);
  EXPECT_EQ(reply->items[0].items[1].items[0].text, "a");
  EXPECT_TRUE(reply->items[0].items[1].items[1].is(Type::kNil));
  EXPECT_TRUE(reply->items[1].items.empty());
  EXPECT_TRUE(reply->items[2].is(Type::kError));
  connection = make_error(EIO, "");
}

// ---- who may, and where -------------------------------------------------------------------------

TEST_F(RedisMetaTest, TenantsDoNotMeet) {
  auto one = open(server_->url("/0?prefix=team-a")), two = open(server_->url("/0?prefix=team-b")),
       other_db = open(server_->url("/1"));
  ASSERT_TRUE(one->put_dataset(definition("x")).ok());
  publish(*one, "x", 10);
  EXPECT_EQ(one->datasets()->size(), 1u);
  EXPECT_TRUE(two->datasets()->empty());
  EXPECT_TRUE(other_db->datasets()->empty());
  EXPECT_FALSE(two->current("x")->has_value());
  for (auto& name : server_->keys("*x*"))
    EXPECT_TRUE(name.starts_with("team-a:")) << name;
}

TEST_F(RedisMetaTest, AUnixSocketIsTheSameRedis) {
  auto meta = open("unix://" + socket());
  EXPECT_EQ(meta->datasets()->size(), 1u);
  EXPECT_EQ(open_meta("unix://" + socket() + "?db=99", "").error().code, EINVAL);
}

TEST_F(RedisMetaTest, PasswordsAndAclUsers) {
  server_->command({"ACL", "SETUSER", "alice", "on", ">s3cret", "~team:*", "&team:*", "+@all"});
  server_->command({"CONFIG", "SET", "requirepass", "hush-hush"});
  const std::string at = "127.0.0.1:" + std::to_string(server_->port) + "/0";
  unsetenv("REDIS_PASSWORD");
  for (const std::string& url : {"redis://" + at, "redis://:wrong-pw@" + at, "redis://alice:wrong-pw@" + at}) {
    auto meta = open_meta(url, "");
    ASSERT_FALSE(meta.ok()) << url;
    EXPECT_EQ(meta.error().code, EACCES) << meta.error().message;
    EXPECT_EQ(meta.error().message.find("wrong-pw"), std::string::npos);
  }
  EXPECT_EQ(open("redis://:hush-hush@" + at)->datasets()->size(), 1u);
  setenv("REDIS_PASSWORD", "hush-hush", 1);
  EXPECT_EQ(open("redis://" + at)->datasets()->size(), 1u);
  unsetenv("REDIS_PASSWORD");
  auto alice = open("redis://alice:s3cret@" + at + "?prefix=team");
  ASSERT_TRUE(alice->put_dataset(definition("hers")).ok());
  publish(*alice, "hers", 20'000);
  EXPECT_EQ(open_meta("redis://alice:s3cret@" + at, "").error().code, EACCES) << "not hers";
}

// ---- notification -------------------------------------------------------------------------------

class Heard {
 public:
  std::function<void(const std::string&)> callback() {
    return [this](const std::string& name) {
      std::lock_guard lock(mutex_);
      ++times_[name];
      wake_.notify_all();
    };
  }
  // More than `before` calls for the name, within `ms`.
  bool wait(const std::string& name, int before, int ms) {
    std::unique_lock lock(mutex_);
    return wake_.wait_for(lock, std::chrono::milliseconds(ms), [&] { return times_[name] > before; });
  }
  int times(const std::string& name) {
    std::lock_guard lock(mutex_);
    return times_[name];
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  std::map<std::string, int> times_;
};

TEST_F(RedisMetaTest, OtherNodesHearOfAVersionAtOnce) {
  publish(*meta_, "a", 10, 1);
  Heard heard;
  auto other = open(server_->url());
  other->watch(heard.callback());
  ASSERT_TRUE(heard.wait("a", 0, 60'000)) << "the first poll, which follows the subscription";
  publish(*meta_, "a", 10, 2);
  ASSERT_TRUE(heard.wait("a", 2, 60'000)) << "the message, and the poll";
}

TEST_F(RedisMetaTest, ALostMessageIsMadeUpForByThePoll) {
  publish(*meta_, "a", 10, 1);
  Heard heard;
  auto other = open(server_->url());
  other->watch(heard.callback());
  ASSERT_TRUE(heard.wait("a", 0, 60'000));
  const int before = heard.times("a");
  const uint64_t version = current_version(*meta_, "a");
  // The same change without a message.
  const std::string old = std::to_string(version), next = std::to_string(version + 1);
  server_->command({"COPY", key(old + ":meta"), key(next + ":meta")});
  server_->command({"SET", key("cur"), next});
  EXPECT_TRUE(heard.wait("a", before, 60'000));
}

TEST_F(RedisMetaTest, AWatchSurvivesARestartOfRedis) {
  Heard heard;
  auto other = open(server_->url("/0?timeout=500"));
  other->watch(heard.callback());
  for (int i = 0; i < 3000 && server_->command({"PUBSUB", "NUMSUB", "larder:changes"}).items.at(1).integer == 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  server_->kill_now();
  server_->start();
  ASSERT_TRUE(meta_->put_dataset(definition("b")).ok());
  publish(*meta_, "b", 10);
  EXPECT_TRUE(heard.wait("b", 0, 60'000));
}

TEST_F(RedisMetaTest, NodesExpire) {
  ASSERT_TRUE(meta_->publish_node("a", {"n1", 1, 1, 1, 0}).ok());
  EXPECT_EQ(meta_->publish_node("a", {"n 2", 1, 1, 1, 0}).error().code, EINVAL);
  server_->command({"HSET", key("nodes"), "dead", "1 2 3 1000"});
  server_->command({"HSET", key("nodes"), "odd", "x"});
  auto nodes = meta_->nodes("a");
  ASSERT_TRUE(nodes.ok());
  ASSERT_EQ(nodes->size(), 1u);
  EXPECT_EQ((*nodes)[0].node, "n1");
  EXPECT_EQ(server_->command({"HLEN", key("nodes")}).integer, 1);
  const auto ttl = server_->command({"TTL", key("nodes")}).integer;
  EXPECT_GT(ttl, 0);
}

// ---- size ---------------------------------------------------------------------------------------

TEST_F(RedisMetaTest, AnObjectTakesAtMostSixtyBytesAndNoValueIsLarge) {
  publish(*meta_, "a", 300'000);
  int64_t total = 0, largest = 0;
  for (auto& name : server_->keys("ds:{a}:*")) {
    total += server_->command({"MEMORY", "USAGE", name}).integer;
    if (name.find(":seg:") != std::string::npos)
      largest = std::max(largest, server_->command({"STRLEN", name}).integer);
  }
  printf("    %.1f bytes an object, largest value %lld bytes\n", static_cast<double>(total) / 3e5,
         static_cast<long long>(largest));
  EXPECT_LE(total, 60 * 300'000);
  EXPECT_LT(largest, 1'000'000);
}

}  // namespace
}  // namespace larder
