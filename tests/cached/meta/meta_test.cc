// What every metadata engine promises (cached/meta/meta.h), on each of them: a reader sees a whole version whatever
// happens.
#include "cached/meta/meta.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "cached/meta/open/open_meta.h"
#include "cached/meta/segment.h"
#include "tests/cached/meta/meta_fixture.h"
#include "tests/cached/meta/redis/redis_server.h"

namespace larder {
namespace {

using namespace larder::testing;

class MetaTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (redis()) {
      if (!have_redis()) GTEST_SKIP() << "there is no redis-server: apt-get install redis-server";
      server_ = std::make_unique<RedisServer>();
    }
    meta_ = open();
  }
  bool redis() const { return std::string(GetParam()) == "redis"; }
  std::string url() const { return redis() ? server_->url() : "local://" + dir_.path() + "/state/deep"; }
  std::unique_ptr<Meta> open() {
    auto meta = open_meta(url(), "/nonexistent");
    EXPECT_TRUE(meta.ok()) << meta.error().message;
    return std::move(*meta);
  }

  TempDir dir_;
  std::unique_ptr<RedisServer> server_;
  std::unique_ptr<Meta> meta_;
};

INSTANTIATE_TEST_SUITE_P(Engines, MetaTest, ::testing::Values("local", "redis"),
                         [](const auto& engine) { return std::string(engine.param); });

TEST_P(MetaTest, DatasetsAreKeptAcrossProcesses) {
  ASSERT_TRUE(meta_->put_dataset(definition("b")).ok());
  ASSERT_TRUE(meta_->put_dataset(definition("a")).ok());
  auto other = open();
  auto all = other->datasets();
  ASSERT_TRUE(all.ok());
  ASSERT_EQ(all->size(), 2u);
  EXPECT_EQ((*all)[0].name, "a");
  EXPECT_EQ((*all)[1].source, "s3://bucket/b/");
  EXPECT_EQ((*all)[1].options, (StoreOptions{{"region", "eu-west-1"}}));
  EXPECT_EQ((*all)[1].group, "ml");
  EXPECT_EQ((*all)[1].id, 7u);
  EXPECT_FALSE(other->get_dataset("c")->has_value());
}

TEST_P(MetaTest, ADatasetKeepsItsSource) {
  auto one = definition("a");
  one.id = 0xfedcba9876543210ULL;
  ASSERT_TRUE(meta_->put_dataset(one).ok());
  EXPECT_EQ((*meta_->get_dataset("a"))->id, one.id);
  one.options["region"] = "cn-north-1";
  EXPECT_TRUE(meta_->put_dataset(one).ok());
  EXPECT_EQ((*meta_->get_dataset("a"))->options["region"], "cn-north-1");
  one.source = "s3://other/";
  auto status = meta_->put_dataset(one);
  EXPECT_EQ(status.error().code, EEXIST);
  EXPECT_NE(status.error().message.find("s3://bucket/a/"), std::string::npos);
}

TEST_P(MetaTest, NamesAndSecretsAreChecked) {
  for (const char* name : {"", ".a", "-a", "a/b", "a b", "ä", "a\n", "a}", "{a"}) {
    auto bad = definition("x");
    bad.name = name;
    EXPECT_EQ(meta_->put_dataset(bad).error().code, EINVAL) << name;
    EXPECT_FALSE(meta_->get_dataset(name)->has_value());
  }
  EXPECT_EQ(meta_->put_dataset(definition(std::string(64, 'a'))).error().code, EINVAL);
  auto secret = definition("x");
  secret.options["secret_key"] = "hush-hush";
  auto status = meta_->put_dataset(secret);
  EXPECT_EQ(status.error().code, EINVAL);
  EXPECT_EQ(status.error().message.find("hush-hush"), std::string::npos);
}

TEST_P(MetaTest, AVersionComesBackWhole) {
  ASSERT_TRUE(meta_->put_dataset(definition("a")).ok());
  EXPECT_FALSE(meta_->current("a")->has_value());
  uint64_t before = 0;
  for (uint64_t objects :
       {uint64_t{0}, uint64_t{1}, uint64_t{kSegmentObjects}, uint64_t{kSegmentObjects + 1}, uint64_t{50'000}}) {
    auto info = publish(*meta_, "a", objects);
    auto current = meta_->current("a");
    ASSERT_TRUE(current.ok() && current->has_value());
    EXPECT_EQ((*current)->version, info.version);
    EXPECT_GT(info.version, std::exchange(before, info.version));
    EXPECT_EQ((*current)->objects, objects);
    EXPECT_EQ((*current)->skipped, 3u);
    EXPECT_EQ((*current)->bytes, info.bytes);
    EXPECT_EQ((*current)->created_ns, info.created_ns);
    auto loaded = count(*meta_, "a", info.version);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    EXPECT_EQ(*loaded, objects);
  }
}

TEST_P(MetaTest, KeysOfAnyBytesAndAnyLengthComeBack) {
  ASSERT_TRUE(meta_->put_dataset(definition("a")).ok());
  std::vector<ObjectInfo> objects = {{"", 0, 0, ""}, {std::string("\0\r\n$5\r\n{x}", 10), 1, -5, "W/\"odd\""}};
  for (int i = 0; i < 40; ++i)
    objects.push_back({std::string(60'000, 'x') + std::to_string(100 + i), 1, 0, std::string(255, 'e')});
  auto writer = meta_->write_version("a");
  for (auto& object : objects)
    ASSERT_TRUE((*writer)->add(object).ok());
  auto info = (*writer)->commit(0);
  ASSERT_TRUE(info.ok()) << info.error().message;
  size_t i = 0;
  ASSERT_TRUE(meta_
                  ->load("a", info->version,
                         [&](ObjectInfo&& object) -> Status {
                           EXPECT_TRUE(object.key == objects[i].key && object.etag == objects[i].etag &&
                                       object.mtime_ns == objects[i].mtime_ns)
                               << i;
                           ++i;
                           return {};
                         })
                  .ok());
  EXPECT_EQ(i, objects.size());
}

TEST_P(MetaTest, TheNewestTwoVersionsStayAndOlderOnesGo) {
  ASSERT_TRUE(meta_->put_dataset(definition("a")).ok());
  ASSERT_TRUE(meta_->put_dataset(definition("b")).ok());
  const uint64_t b = publish(*meta_, "b", 5).version;
  std::vector<uint64_t> versions;
  for (uint64_t v = 1; v <= 4; ++v)
    versions.push_back(publish(*meta_, "a", 20'000, v).version);
  EXPECT_EQ(count(*meta_, "a", versions[1]).error().code, ENOENT);
  EXPECT_EQ(*count(*meta_, "a", versions[2], 3), 20'000u);
  EXPECT_EQ(*count(*meta_, "a", versions[3], 4), 20'000u);
  EXPECT_EQ(*count(*meta_, "b", b), 5u);
}

TEST_P(MetaTest, ALoadThatBeganFinishesThoughItsVersionIsDropped) {
  ASSERT_TRUE(meta_->put_dataset(definition("a")).ok());
  const uint64_t first = publish(*meta_, "a", 50'000).version;
  uint64_t seen = 0;
  auto status = meta_->load("a", first, [&](ObjectInfo&&) -> Status {
    if (seen++ == 0) {
      for (int i = 0; i < 3; ++i)
        publish(*meta_, "a", 10);
    }
    return {};
  });
  EXPECT_TRUE(status.ok()) << status.error().message;
  EXPECT_EQ(seen, 50'000u);
  EXPECT_EQ(count(*meta_, "a", first).error().code, ENOENT);
}

TEST_P(MetaTest, AWriterThatIsDroppedOrFailsPublishesNothing) {
  ASSERT_TRUE(meta_->put_dataset(definition("a")).ok());
  {
    auto writer = meta_->write_version("a");
    for (uint64_t i = 0; i < 40'000; ++i)
      ASSERT_TRUE((*writer)->add(object_of(i)).ok());
  }
  EXPECT_FALSE(meta_->current("a")->has_value());
  auto writer = meta_->write_version("a");
  ASSERT_TRUE((*writer)->add({"b", 1, 0, ""}).ok());
  EXPECT_EQ((*writer)->add({"a", 1, 0, ""}).error().code, EINVAL);
  EXPECT_EQ((*writer)->commit(0).error().code, EINVAL) << "a version with a hole is not published";
  EXPECT_FALSE(meta_->current("a")->has_value());
  EXPECT_EQ(meta_->write_version("nobody").error().code, ENOENT);
}

TEST_P(MetaTest, RemovingADatasetWhileItIsListedPublishesNothing) {
  ASSERT_TRUE(meta_->put_dataset(definition("a")).ok());
  const uint64_t before = publish(*meta_, "a", 1).version;
  auto writer = meta_->write_version("a");
  ASSERT_TRUE((*writer)->add(object_of(0)).ok());
  ASSERT_TRUE(open()->remove_dataset("a").ok());
  EXPECT_EQ((*writer)->commit(0).error().code, ENOENT);
  EXPECT_EQ(meta_->remove_dataset("a").error().code, ENOENT);
  EXPECT_EQ(meta_->load("a", before, [](ObjectInfo&&) -> Status { return {}; }).error().code, ENOENT);
  EXPECT_TRUE(meta_->datasets()->empty());
  ASSERT_TRUE(meta_->put_dataset(definition("a")).ok());
  EXPECT_FALSE(meta_->current("a")->has_value());
}

TEST_P(MetaTest, TheReceiversErrorEndsALoad) {
  ASSERT_TRUE(meta_->put_dataset(definition("a")).ok());
  const uint64_t version = publish(*meta_, "a", 100).version;
  int seen = 0;
  auto status = meta_->load("a", version, [&](ObjectInfo&&) -> Status {
    if (++seen == 10) return make_error(ENOSPC, "full");
    return {};
  });
  EXPECT_EQ(status.error().code, ENOSPC);
  EXPECT_EQ(status.error().message, "full");
  EXPECT_EQ(seen, 10);
}

// kill -9 at many moments of publishing leaves the old version or the new one, never a part.
TEST_P(MetaTest, AKilledWriterLeavesAWholeVersion) {
  ASSERT_TRUE(meta_->put_dataset(definition("a")).ok());
  const uint64_t first = publish(*meta_, "a", 20'000, 1).version;
  int unpublished = 0;
  uint64_t last = first;
  for (int round = 0; round < 24; ++round) {
    int ready[2];
    ASSERT_EQ(pipe(ready), 0);
    const pid_t child = fork();
    if (child == 0) {
      auto meta = open_meta(url(), "");
      auto writer = (*meta)->write_version("a");
      for (uint64_t i = 0; i < 40'000; ++i)
        (void)(*writer)->add(object_of(i, 2));
      (void)!write(ready[1], "x", 1);
      (void)(*writer)->commit(0);
      (void)!write(ready[1], "y", 1);
      _exit(0);
    }
    char c;
    if (round % 4 != 0) {
      ASSERT_EQ(read(ready[0], &c, 1), 1);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(round % 4 == 0 ? round * 3000 : round * 250));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    close(ready[0]);
    close(ready[1]);
    const uint64_t version = current_version(*meta_, "a");
    ASSERT_GE(version, last);
    unpublished += version == last;
    auto loaded = count(*meta_, "a", version, version == first ? 1 : 2);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    EXPECT_EQ(*loaded, version == first ? 20'000u : 40'000u);
    last = version;
  }
  EXPECT_GT(unpublished, 0) << "the kills came too late to prove anything";
  EXPECT_TRUE(meta_->put_dataset(definition("b")).ok()) << "no lock is left behind";
}

TEST_P(MetaTest, ProcessesPublishAtOnceAndNothingIsLost) {
  ASSERT_TRUE(meta_->put_dataset(definition("a")).ok());
  const uint64_t before = publish(*meta_, "a", 1).version;
  std::vector<pid_t> children;
  for (int p = 0; p < 3; ++p) {
    const pid_t child = fork();
    if (child == 0) {
      auto meta = open_meta(url(), "");
      bool good = meta.ok();
      for (int i = 0; good && i < 5; ++i)
        good = try_publish(**meta, "a", 20'000).ok();
      _exit(good ? 0 : 1);
    }
    children.push_back(child);
  }
  for (pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  const uint64_t after = current_version(*meta_, "a");
  EXPECT_EQ(after, before + 15);
  EXPECT_EQ(*count(*meta_, "a", after), 20'000u);
}

TEST_P(MetaTest, NodesAreListedBestFirst) {
  ASSERT_TRUE(meta_->put_dataset(definition("a")).ok());
  EXPECT_TRUE(meta_->nodes("a")->empty());
  EXPECT_EQ(meta_->nodes("b").error().code, ENOENT);
  EXPECT_EQ(meta_->publish_node("b", {"n1", 1, 1, 1, 0}).error().code, ENOENT);
  ASSERT_TRUE(meta_->publish_node("a", {"n1", 4, 10, 1000, 0}).ok());
  ASSERT_TRUE(meta_->publish_node("a", {"n3", 4, 20, 2000, 0}).ok());
  ASSERT_TRUE(meta_->publish_node("a", {"n2", 3, 0, 1000, 0}).ok());
  ASSERT_TRUE(meta_->publish_node("a", {"n1", 5, 11, 1500, 0}).ok());
  auto nodes = meta_->nodes("a");
  ASSERT_TRUE(nodes.ok()) << nodes.error().message;
  ASSERT_EQ(nodes->size(), 3u);
  EXPECT_EQ((*nodes)[0].node, "n3");
  EXPECT_EQ((*nodes)[1].node, "n1");
  EXPECT_EQ((*nodes)[1].version, 5u);
  EXPECT_EQ((*nodes)[1].files, 11u);
  EXPECT_EQ((*nodes)[1].bytes, 1500u);
  EXPECT_LE((*nodes)[1].age_s, 2u);
  EXPECT_EQ((*nodes)[2].node, "n2");
}

TEST_P(MetaTest, AMillionObjectsLoadFast) {
  ASSERT_TRUE(meta_->put_dataset(definition("big")).ok());
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  const uint64_t version = publish(*meta_, "big", 1'000'000).version;
  const auto written = Clock::now();
  uint64_t objects = 0, bytes = 0;
  ASSERT_TRUE(meta_
                  ->load("big", version,
                         [&](ObjectInfo&& object) -> Status {
                           ++objects;
                           bytes += object.size;
                           return {};
                         })
                  .ok());
  const auto loaded = Clock::now();
  EXPECT_EQ(objects, 1'000'000u);
  EXPECT_EQ(bytes, (*meta_->current("big"))->bytes);
  auto ms = [](auto d) {
    return static_cast<long long>(std::chrono::duration_cast<std::chrono::milliseconds>(d).count());
  };
  printf("    %s: 1,000,000 objects written in %lld ms, loaded in %lld ms\n", GetParam(), ms(written - start),
         ms(loaded - written));
#ifndef LARDER_SANITIZED
  EXPECT_LT(ms(loaded - written), 2000);  // 0.5 s on an idle machine; this one may be shared
#endif
}

}  // namespace
}  // namespace larder
