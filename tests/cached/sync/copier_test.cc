// The byte counts of a sync, while it runs and at its end: the progress bar and the rate come from them.
#include "cached/sync/copier.h"

#include <gtest/gtest.h>

#include <thread>

#include "cached/sync/sync.h"
#include "tests/cached/store/http/live_server.h"

namespace larder {
namespace {

using ::larder::testing::FaultProxy;
using ::larder::testing::LiveS3;
using ::larder::testing::pattern;

constexpr uint64_t kMiB = 1 << 20;

class CopierTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string why;
    s3_ = LiveS3::instance(why);
    if (s3_ == nullptr) GTEST_SKIP() << why;
    s3_->make_bucket("copier");
    prefix_ = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    s3_->put("copier", prefix_ + "/large", pattern(kSize));
    proxy_ = std::make_unique<FaultProxy>(s3_->endpoint);
  }

  Endpoint end(const std::string& place, bool target) {
    StoreOptions options = s3_->options();
    options["endpoint"] = proxy_->endpoint;
    options["max_copy"] = "16MiB";
    auto out = open_endpoint(place, {options, target, false});
    EXPECT_TRUE(out.ok()) << out.error().message;
    return std::move(*out);
  }

  static constexpr uint64_t kSize = 20 * kMiB + 5;  // three parts
  LiveS3* s3_ = nullptr;
  std::string prefix_;
  std::unique_ptr<FaultProxy> proxy_;
  testing::TempDir dir_;
};

TEST_F(CopierTest, ACopyThatIsBegunAgainCountsItsBytesOnce) {
  proxy_->rules({{{"match", "^GET /copier/.*/large"}, {"fault", "flip"}, {"at", 900}, {"count", 1}}});
  Endpoint from = end("s3://copier/" + prefix_, false), to = end(dir_.path(), true);
  Sync sync(from, to, {}, {});
  sync.run();
  EXPECT_EQ(proxy_->log()["counts"]["GET"], 2 * 3 + 1) << "two copies of three parts, and a list";
  EXPECT_EQ(sync.counts().copied, 1u);
  EXPECT_EQ(sync.counts().moved_bytes, kSize);
}

TEST_F(CopierTest, WhatFailedIsNotCounted) {
  proxy_->rules({{{"match", "^PUT .*partNumber=3"}, {"fault", "status"}, {"status", 403}, {"code", "AccessDenied"}}});
  s3_->put("copier", prefix_ + "/small", "bytes");
  Endpoint from = end("s3://copier/" + prefix_, false), to = end("s3://copier/refused", true);
  Sync sync(from, to, {}, {});
  sync.run();
  EXPECT_EQ(sync.counts().failed, 1u);
  EXPECT_EQ(sync.counts().moved_bytes, 5u);
}

TEST_F(CopierTest, PartsThatTheStoreCopiesAreCountedOneByOne) {
  proxy_->rules({{{"match", "^PUT .*partNumber=3"}, {"fault", "delay"}, {"delay", 1.5}}});
  Endpoint from = end("s3://copier/" + prefix_, false), to = end("s3://copier/counted", true);
  Sync sync(from, to, {}, {});
  std::vector<uint64_t> seen{0};
  std::thread running([&] { sync.run(); });
  while (seen.back() < kSize) {
    const uint64_t now = sync.counts().moved_bytes;
    if (now != seen.back()) seen.push_back(now);
    if (sync.counts().failed > 0) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  running.join();
  EXPECT_EQ(sync.counts().failed, 0u);
  EXPECT_GE(seen.size(), 3u) << "nothing was said until the whole was there";
  EXPECT_EQ(sync.counts().moved_bytes, kSize);
}

}  // namespace
}  // namespace larder
