// Stores that speak S3 with habits of their own (tests/tools/odd_s3_server.py): a reader gets the right bytes, or an
// errno that names the cause.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <future>

#include "cached/store/api/percent.h"
#include "tests/cached/store/http/live_server.h"

namespace larder {
namespace {

using namespace larder::testing;
using nlohmann::json;

class OddS3Test : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(server_.line().is_object()) << "the server did not start";
    endpoint_ = server_.line()["endpoint"];
  }
  void habits(const json& habits) { ASSERT_EQ(http("PUT", endpoint_ + "/-/habits", habits.dump()).status, 200); }
  json log() { return json::parse(http("GET", endpoint_ + "/-/log").body); }
  void put(const std::string& key, const std::string& data, int64_t mtime = 1'700'000'000,
           const std::vector<std::string>& headers = {}) {
    std::vector<std::string> all = headers;
    all.push_back("x-mtime: " + std::to_string(mtime));
    ASSERT_EQ(http("PUT", endpoint_ + "/bkt/d/" + percent_encode(key, true), data, all).status, 200);
  }
  std::unique_ptr<Store> open(StoreOptions more = {}) {
    StoreOptions options{
        {"endpoint", endpoint_}, {"access_key", "a"}, {"secret_key", "b"}, {"region", "us-east-1"}, {"retries", "2"}};
    for (auto& [name, value] : more)
      options[name] = value;
    auto store = open_store("s3://bkt/d/", options);
    EXPECT_TRUE(store.ok()) << store.error().message;
    return store.ok() ? std::move(*store) : nullptr;
  }

  JsonChild server_{{"python3", "tests/tools/odd_s3_server.py"}};
  std::string endpoint_;
};

std::string gzipped(const std::string& data) {
  z_stream zip{};
  EXPECT_EQ(deflateInit2(&zip, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(compressBound(data.size()) + 32, 0);
  zip.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  zip.avail_in = static_cast<uInt>(data.size());
  zip.next_out = reinterpret_cast<Bytef*>(out.data());
  zip.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&zip, Z_FINISH), Z_STREAM_END);
  out.resize(zip.total_out);
  deflateEnd(&zip);
  return out;
}

bool same_version(const ObjectInfo& a, const ObjectInfo& b) {
  return a.size == b.size && a.mtime_ns == b.mtime_ns && a.etag == b.etag;
}

TEST_F(OddS3Test, AReplacedObjectOfTheSameSizeIsStaleWhateverItsEtagIs) {
  for (const char* etags : {"md5", "none", "constant", "weak"}) {
    SCOPED_TRACE(etags);
    habits({{"etags", etags}});
    put("f", "version 1");
    put("large", pattern(20'000'000, 1));
    auto store = open();
    const auto listed = *list_all(*store);
    EXPECT_EQ(get_all(*store, listed[0]).data, "version 1");
    EXPECT_TRUE(get_range(*store, listed[1], 5'000'000, 100'000).status.ok());
    put("f", "VERSION 2", 1'700'000'100);
    put("large", pattern(20'000'000, 2), 1'700'000'100);
    for (auto& object : listed) {
      const Got whole = get_all(*store, object);
      EXPECT_EQ(whole.status.error().code, ESTALE) << whole.status.error().message;
      EXPECT_EQ(whole.data, "");
      EXPECT_EQ(get_range(*store, object, 3, 4).status.error().code, ESTALE);
    }
    const auto now = *list_all(*store);
    EXPECT_FALSE(same_version(listed[0], now[0]));
    EXPECT_EQ(get_all(*store, now[0]).data, "VERSION 2");
    EXPECT_TRUE(get_all(*store, now[1]).data == pattern(20'000'000, 2));
  }
}

TEST_F(OddS3Test, PartsOfAnObjectWithoutAStrongEtagAreNotFetchedApart) {
  put("f", "x");
  for (auto& [etags, can] :
       std::vector<std::pair<const char*, bool>>{{"md5", true}, {"none", false}, {"weak", false}}) {
    habits({{"etags", etags}});
    auto store = open();
    EXPECT_EQ(store->can_range(list_all(*store)->front().etag), can) << etags;
  }
}

// Of many requests that are refused at once, all are signed anew; how many the server saw at once is forced.
class OddS3ManyTest : public OddS3Test {
 protected:
  static constexpr int kAtOnce = 32;
  // How many of kAtOnce GETs at once fail, and with what.
  std::string failures(Store& store, const ObjectInfo& object) {
    std::vector<std::future<Got>> got;
    for (int i = 0; i < kAtOnce; ++i)
      got.push_back(std::async(std::launch::async, [&] { return get_all(store, object); }));
    std::string out;
    for (auto& one : got) {
      const Got ended = one.get();
      if (!ended.status.ok()) out += ended.status.error().message + "\n";
    }
    return out;
  }
};

TEST_F(OddS3ManyTest, AStepOfTheClockCostsNoReadItsBytes) {
  put("f", "data");
  auto store = open();
  const auto object = list_all(*store)->front();
  for (int clock : {3600, -3600, 0}) {
    habits({{"clock", clock}, {"hold", kAtOnce}});
    EXPECT_EQ(failures(*store, object), "") << clock;
  }
}

TEST_F(OddS3ManyTest, AWrongRegionCostsNoReadItsBytes) {
  put("f", "data");
  auto store = open();
  const auto object = list_all(*store)->front();
  for (const char* region : {"eu-central-1", "ap-east-1"}) {
    habits({{"region", region}, {"hold", kAtOnce}});
    EXPECT_EQ(failures(*store, object), "") << region;
  }
}

// Whatever the Date of a refusal says: the clock follows the store's word for a wrong clock alone, less its age in a
// cache.
TEST_F(OddS3Test, ACachedRefusalDoesNotSetTheClock) {
  put("f", "data");
  put("secret", "data");
  auto store = open();
  const auto listed = *list_all(*store);
  habits({{"denied", {"d/secret"}}, {"age", 10'800}});
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(get_all(*store, listed[1]).status.error().code, EACCES);
    EXPECT_EQ(get_all(*store, listed[0]).data, "data");
  }
  for (auto& one : log()) {
    if (one["path"] == "d/f") {
      EXPECT_EQ(one["status"], 200) << "and was not sent twice";
    }
  }
}

TEST_F(OddS3Test, WhatIsStoredPackedComesAsItWasListed) {
  habits({{"gunzip", true}});
  const std::string gz = gzipped(std::string(500'000, 'x'));
  put("a.json", gz, 1'700'000'000, {"content-encoding: gzip"});
  put("b.json", gz, 1'700'000'000, {"content-encoding: gzip"});
  put("plain", "data");
  auto store = open();
  const auto listed = *list_all(*store);
  for (auto& object : listed) {
    const Got got = get_all(*store, object);
    ASSERT_TRUE(got.status.ok()) << got.status.error().message;
    EXPECT_TRUE(got.data == (object.key == "plain" ? "data" : gz)) << object.key;
    EXPECT_TRUE(get_range(*store, object, 1, 2).data == got.data.substr(1, 2));
  }
}

TEST_F(OddS3Test, AStoreThatKnowsListObjectsVersion1AloneIsFoundOut) {
  habits({{"list_v1", true}});
  std::vector<std::string> keys;
  for (int i = 0; i < 2'345; ++i) {
    keys.push_back(fmt::format("{}/f{:04} ü", i % 3, i));
    put(keys.back(), "x");
  }
  std::sort(keys.begin(), keys.end());
  auto listed = list_all(*open());
  ASSERT_TRUE(listed.ok()) << listed.error().message;
  std::vector<std::string> got;
  for (auto& object : *listed)
    got.push_back(object.key);
  EXPECT_EQ(got, keys);
}

TEST_F(OddS3Test, ExcludedKeysAreNotListed) {
  for (const char* key : {"a.jpg", "a.tmp", "x/b.tmp", "x/b.jpg", "cache/c.jpg", "with space"})
    put(key, "x");
  auto listed = list_all(*open({{"exclude", "*.tmp cache/ with\\ space"}}));
  ASSERT_TRUE(listed.ok()) << listed.error().message;
  ASSERT_EQ(listed->size(), 2u);
  EXPECT_EQ((*listed)[0].key, "a.jpg");
  EXPECT_EQ((*listed)[1].key, "x/b.jpg");
}

}  // namespace
}  // namespace larder
