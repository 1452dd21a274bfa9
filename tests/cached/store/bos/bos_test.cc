// bos:// against tests/tools/bos_server.py, which lets the official SDK's signer judge every request.
#include "cached/store/bos/bos.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <ctime>
#include <filesystem>
#include <fstream>

#include "cached/store/api/percent.h"
#include "cached/store/api/upload.h"
#include "cached/store/bos/bce_auth.h"
#include "tests/cached/store/http/live_server.h"

namespace larder {
namespace {

using namespace larder::testing;
using nlohmann::json;

const Environment kEmptyEnvironment = [](const char*) -> std::optional<std::string> { return std::nullopt; };

TEST(Bos, WhereTheBucketIsNamed) {
  using enum BosStyle;
  EXPECT_EQ(bos_style("auto", "bj.bcebos.com", "ds-bkt"), kVirtual);
  EXPECT_EQ(bos_style("auto", "ds-bkt.bj.bcebos.com", "ds-bkt"), kOwnHost);
  EXPECT_EQ(bos_style("auto", "bj.bcebos.com:8080", "bj1"), kVirtual);
  EXPECT_EQ(bos_style("auto", "gz.bcebos.com", "gz1"), kVirtual);
  EXPECT_EQ(bos_style("auto", "ds.cdn.bcebos.com", "ds-bkt"), kOwnHost);
  EXPECT_EQ(bos_style("auto", "127.0.0.1:80", "ds-bkt"), kPath);
  EXPECT_EQ(bos_style("auto", "objects.example.org", "ds-bkt"), kPath);
  EXPECT_EQ(bos_style("path", "bj.bcebos.com", "ds-bkt"), kPath);
  EXPECT_EQ(bos_style("virtual", "localhost:80", "ds-bkt"), kVirtual);
}

TEST(Bos, Checksums) {
  EXPECT_EQ(parse_crc32("3632233909"), 3632233909u);
  EXPECT_EQ(parse_crc32("1"), 1u);
  for (const char* bad : {"", "-1", "4294967296", "12x", "0x1"})
    EXPECT_FALSE(parse_crc32(bad)) << bad;
}

TEST(Bos, ListsOfAllKinds) {
  auto page = parse_bos_list(R"({"name":"b","isTruncated":true,"nextMarker":"n","contents":[
    {"key":"\u6d4b\ud83d\ude00/a b","lastModified":"2014-06-13T05:57:36Z","eTag":"\"e1\"","size":4294967297,"owner":{}}]})");
  ASSERT_TRUE(page.ok()) << page.error().message;
  ASSERT_EQ(page->objects.size(), 1u);
  EXPECT_EQ(page->objects[0].key, "测😀/a b");
  EXPECT_EQ(page->objects[0].etag, "e1");
  EXPECT_EQ(page->objects[0].size, 4294967297u);
  EXPECT_EQ(page->objects[0].mtime_ns, 1402639056'000'000'000);
  EXPECT_EQ(page->next, "n");
  EXPECT_EQ(parse_bos_list(R"({"isTruncated":true,"contents":[{"key":"k","size":0}]})")->next, "k");
  EXPECT_EQ(parse_bos_list(R"({"isTruncated":false,"nextMarker":"x","contents":[]})")->next, "");
  for (const char* bad :
       {"", "{", "[]", "null", "{}", R"({"contents":{}})", R"({"contents":[]})",
        R"({"isTruncated":true,"contents":[]})", R"({"isTruncated":false,"contents":[1]})",
        R"({"isTruncated":false,"contents":[{"size":1}]})", R"({"isTruncated":false,"contents":[{"key":"k"}]})",
        R"({"isTruncated":false,"contents":[{"key":"k","size":-1}]})",
        R"({"isTruncated":false,"contents":[{"key":"k","size":1.5}]})",
        R"({"isTruncated":false,"contents":[{"key":"k","size":"1"}]})",
        R"({"isTruncated":false,"contents":[{"key":"k","size":18446744073709551615}]})",
        "{\"isTruncated\":false,\"contents\":[{\"key\":\"\xff\",\"size\":1}]}"}) {
    auto refused = parse_bos_list(bad);
    ASSERT_FALSE(refused.ok()) << bad;
    EXPECT_EQ(refused.error().code, EIO);
  }
}

TEST(Bos, ErrorsOfAllKinds) {
  auto error = parse_bos_error(R"({"code":"NoSuchKey","message":"gone","requestId":"r1"})");
  EXPECT_EQ(error.code + error.message + error.request_id, "NoSuchKeygoner1");
  for (const char* bad : {"", "<html>", "[]", R"({"code":7,"message":null})"})
    EXPECT_EQ(parse_bos_error(bad).code, "");
}

TEST(Bos, OptionsThatCannotBe) {
  const SourceUrl source{"bos", "ds-bkt", ""};
  for (auto [name, value] : {std::pair<const char*, const char*>{"region", "Beijing!"},
                             {"endpoint", "bj.bcebos.com"},
                             {"addressing", "both"},
                             {"credentials_file", "/nowhere/keys"}}) {
    auto store = open_bos(source, {{name, value}}, kEmptyEnvironment);
    ASSERT_FALSE(store.ok()) << name;
    EXPECT_NE(store.error().message.find(value), std::string::npos) << store.error().message;
  }
  auto none = open_bos(source, {}, kEmptyEnvironment);
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().code, EACCES);
  EXPECT_TRUE(none.error().message.starts_with("bos://ds-bkt/: no credentials")) << none.error().message;
}

class BosTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* venv = getenv("LARDER_TEST_VENV");
    const std::string python = std::string(venv ? venv : "build/venv") + "/bin/python";
    if (access(python.c_str(), X_OK) != 0) GTEST_SKIP() << python << " is missing (tests/tools/venv.sh makes it)";
    server_ = std::make_unique<JsonChild>(
        std::vector<std::string>{python, "tests/tools/bos_server.py", "--page", "7", "--session-token", "tok/en+1=="});
    ASSERT_TRUE(server_->line().is_object()) << "the BOS server did not start";
    endpoint_ = server_->line()["endpoint"];
    who_ = {server_->line()["access_key"], server_->line()["secret_key"], server_->line()["session_token"], 0};
  }

  StoreOptions options() const {
    return {{"endpoint", endpoint_},
            {"access_key", who_.access_key},
            {"secret_key", who_.secret_key},
            {"session_token", who_.session_token}};
  }

  std::unique_ptr<Store> open(const std::string& source, StoreOptions more = {}) {
    StoreOptions all = options();
    for (auto& [name, value] : more)
      all[name] = value;
    auto store = open_store(source, all);
    EXPECT_TRUE(store.ok()) << store.error().message;
    return store.ok() ? std::move(*store) : nullptr;
  }

  void put(const std::string& key, const std::string& data) {
    BceRequest request{"PUT", "/bucket/" + percent_encode(key, true), {}, {{"host", endpoint_.substr(7)}}, ""};
    const int64_t now = time(nullptr);
    request.headers.emplace_back("x-bce-date", bce_date(now));
    request.headers.emplace_back("x-bce-security-token", who_.session_token);
    BceSigner signer;
    auto answer = http("PUT", endpoint_ + request.path, data,
                       {"x-bce-date: " + bce_date(now), "x-bce-security-token: " + who_.session_token,
                        "Authorization: " + signer.authorization(request, who_, now), "Expect:"});
    ASSERT_EQ(answer.status, 200) << answer.body;
  }

  json control(const std::string& what, const json& body = json::object()) {
    return json::parse(http("PUT", endpoint_ + "/__test__/" + what, body.dump()).body);
  }

  std::unique_ptr<JsonChild> server_;
  std::string endpoint_;
  Credentials who_;
};

TEST_F(BosTest, NamesOfAllKindsAreListedAndReadInBothStyles) {
  std::map<std::string, std::string> wanted;
  for (const char* key : {"plain.txt",    "with space",   "plus+sign", "percent%25", "pct%",         "q?x=1#f",
                          "ünï/测试.jpg", "emoji/😀",      "a-b",       "a/b",        "a.txt",        "a0",
                          "amp&<>'\"",    "~tilde*()!$;", " lead",     "trail ",     "deep/1/2/3/4", "a//b",
                          "x/../y",       "back\\slash",  "ctl\x01\n", "eq=uals",    "at@colon:"}) {
    put("pre fix+/" + std::string(key), wanted[key] = "content of " + std::string(key));
  }
  put("elsewhere", "not below the prefix");
  const size_t port = endpoint_.rfind(':');
  for (const StoreOptions& style :
       {StoreOptions{},
        StoreOptions{{"addressing", "virtual"}, {"endpoint", "http://localhost" + endpoint_.substr(port)}}}) {
    auto store = open("bos://bucket/pre fix+", style);
    auto listed = list_all(*store);
    ASSERT_TRUE(listed.ok()) << listed.error().message;
    std::map<std::string, std::string> got;
    for (auto& object : *listed) {
      auto one = get_all(*store, object);
      EXPECT_TRUE(one.status.ok()) << one.status.error().message;
      got[object.key] = one.data;
      EXPECT_NEAR(static_cast<double>(object.mtime_ns) / 1e9, static_cast<double>(time(nullptr)), 60);
      auto head = store->head(object.key);
      ASSERT_TRUE(head.ok()) << head.error().message;
      EXPECT_EQ(head->etag, object.etag);
      EXPECT_EQ(head->size, object.size);
      EXPECT_EQ(head->mtime_ns, object.mtime_ns);
    }
    EXPECT_EQ(got, wanted);
    EXPECT_EQ(store->counters().lists, 4u) << "23 objects, 7 a page";
  }
}

TEST_F(BosTest, ListsGoOnWithoutANextMarker) {
  for (int i = 0; i < 20; ++i)
    put("k" + std::to_string(i), "x");
  control("options", {{"next_marker", false}});
  auto listed = list_all(*open("bos://bucket"));
  ASSERT_TRUE(listed.ok()) << listed.error().message;
  EXPECT_EQ(listed->size(), 20u);
}

TEST_F(BosTest, RangesAndSizes) {
  auto store = open("bos://bucket");
  for (size_t size : {size_t{0}, size_t{1}, size_t{110'000}, size_t{1} << 20, size_t{20'000'001}}) {
    const std::string data = pattern(size, size);
    const std::string key = "s" + std::to_string(size);
    put(key, data);
    auto object = store->head(key);
    ASSERT_TRUE(object.ok()) << object.error().message;
    auto all = get_all(*store, *object);
    EXPECT_TRUE(all.status.ok()) << all.status.error().message;
    EXPECT_TRUE(all.data == data) << size;
    if (size < 100) continue;
    auto part = get_range(*store, *object, 77, size / 2);
    EXPECT_TRUE(part.status.ok()) << part.status.error().message;
    EXPECT_TRUE(part.data == data.substr(77, size / 2)) << size;
  }
}

TEST_F(BosTest, TheStoreCopiesTheVersionThatWasListedOrNone) {
  put("old name+%.bin", "the bytes");
  auto store = open("bos://bucket");
  auto object = store->head("old name+%.bin");
  ASSERT_TRUE(object.ok()) << object.error().message;
  const NewObject made{"new", object->size, 1'600'000'000'000'000'000, {}, 0, {}};
  const Status stale = store->writer()->copy(made, {"bucket", "old name+%.bin", "0123456789abcdef0123456789abcdef"});
  EXPECT_FALSE(stale.ok());
  EXPECT_EQ(stale.error().code, ESTALE) << stale.error().message;
  const Status copied = store->writer()->copy(made, {"bucket", "old name+%.bin", object->etag});
  EXPECT_TRUE(copied.ok()) << copied.error().message;
  EXPECT_EQ(get_all(*store, *store->head("new")).data, "the bytes");
}

TEST_F(BosTest, FaultsAreRetriedAndFlippedBitsFound) {
  for (size_t size : {size_t{110'000}, size_t{3'000'000}}) {
    for (const json& fault :
         {json{{"fault", "flip"}, {"at", 4711}}, json{{"fault", "reset"}, {"at", 50'000}},
          json{{"fault", "truncate"}, {"at", 50'000}}, json{{"fault", "status"}, {"status", 503}}}) {
      const std::string data = pattern(size, 7);
      put("faulty", data);
      FaultProxy proxy(endpoint_);
      auto store = open("bos://bucket", {{"endpoint", proxy.endpoint}});
      auto object = store->head("faulty");
      ASSERT_TRUE(object.ok()) << object.error().message;
      json rule = fault;
      rule["match"] = "^GET ";
      rule["count"] = 1;
      proxy.rules(json::array({rule}));
      auto got = get_all(*store, *object);
      EXPECT_TRUE(got.status.ok()) << fault << got.status.error().message;
      EXPECT_TRUE(got.data == data) << fault;
      EXPECT_EQ(store->counters().retries, 1u) << fault;
    }
  }
}

TEST_F(BosTest, LargeObjectsWithAFlippedBitAreAnErrorNotBytes) {
  FaultProxy proxy(endpoint_);
  for (size_t size : {6'000'000, 20'000'000}) {  // one GET; parallel parts, whose replies have no sum of the whole
    SCOPED_TRACE(size);
    put("large", pattern(size));
    auto store = open("bos://bucket", {{"endpoint", proxy.endpoint}});
    auto object = store->head("large");
    proxy.rules(json::array());
    EXPECT_TRUE(get_all(*store, *object).status.ok());
    const json flip = json::array({{{"match", "^GET "}, {"fault", "flip"}, {"at", 3'599'999}, {"count", 1}}});
    proxy.rules(flip);
    auto got = get_all(*store, *object);
    ASSERT_FALSE(got.status.ok());
    EXPECT_EQ(got.status.error().code, kWrongBytes);
    EXPECT_NE(got.status.error().message.find("checksum"), std::string::npos) << got.status.error().message;
    auto trusting = open("bos://bucket", {{"endpoint", proxy.endpoint}, {"verify", "never"}});
    proxy.rules(flip);
    EXPECT_TRUE(get_all(*trusting, *object).status.ok());
  }
}

TEST_F(BosTest, WhatAProgramSees) {
  put("there", "first");
  auto store = open("bos://bucket");
  auto object = *store->head("there");
  EXPECT_EQ(store->head("absent").error().code, ENOENT);
  auto absent = get_range(*store, {"absent", 5, 0, ""}, 0, 5);
  EXPECT_EQ(absent.status.error().code, ENOENT);
  EXPECT_NE(absent.status.error().message.find("bos://bucket/absent: HTTP 404 NoSuchKey"), std::string::npos)
      << absent.status.error().message;
  EXPECT_NE(absent.status.error().message.find("request id"), std::string::npos);
  auto no_bucket = list_all(*open("bos://no-such-bucket"));
  EXPECT_EQ(no_bucket.error().code, ENOENT);
  EXPECT_NE(no_bucket.error().message.find("check the bucket's name and its region"), std::string::npos);
  put("there", "newer");
  EXPECT_EQ(get_all(*store, object).status.error().code, ESTALE) << "replaced since it was listed";
  for (auto [name, value] : {std::pair<const char*, const char*>{"secret_key", "wrong"},
                             {"access_key", "wrong"},
                             {"session_token", "wrong"},
                             {"anonymous", "true"}}) {
    auto refused = open("bos://bucket", {{name, value}})->head("there");
    ASSERT_FALSE(refused.ok()) << name;
    EXPECT_EQ(refused.error().code, name == std::string("secret_key") ? EIO : EACCES) << refused.error().message;
    auto list = list_all(*open("bos://bucket", {{name, value}}));
    EXPECT_EQ(list.error().code, EACCES) << list.error().message;
    EXPECT_EQ(list.error().message.find(who_.secret_key), std::string::npos);
  }
  control("options", {{"public", true}});
  EXPECT_TRUE(open("bos://bucket", {{"anonymous", "true"}})->head("there").ok());
}

TEST_F(BosTest, AWrongClockIsPutRight) {
  put("k", "data");
  control("clock?offset=7200");
  auto store = open("bos://bucket");
  auto listed = list_all(*store);
  ASSERT_TRUE(listed.ok()) << listed.error().message;
  EXPECT_TRUE(get_all(*store, listed->front()).status.ok());
}

TEST_F(BosTest, KeysThatRotateStopNobody) {
  put("k", "data");
  TempDir dir;
  const std::string path = dir.path() + "/keys";
  auto write = [&](const Credentials& who) {
    std::ofstream(path + ".new") << "[Defaults]\nAk = " << who.access_key << "\nSk = " << who.secret_key
                                 << "\nSts = " << who.session_token << "\n";
    std::filesystem::rename(path + ".new", path);
  };
  write(who_);
  auto opened = open_store("bos://bucket", {{"endpoint", endpoint_}, {"credentials_file", path}});
  ASSERT_TRUE(opened.ok()) << opened.error().message;
  Store& store = **opened;
  auto object = store.head("k");
  ASSERT_TRUE(object.ok()) << object.error().message;
  const Credentials next{"ak2", "sk2", "tok2", 0};
  write(next);
  control("keys", {{"access_key", "ak2"}, {"secret_key", "sk2"}, {"session_token", "tok2"}});
  for (int i = 0; i < 20; ++i)
    EXPECT_TRUE(get_all(store, *object).status.ok());
  EXPECT_EQ(store.counters().errors, 0u);
  EXPECT_EQ(store.counters().retries, 0u);
}

}  // namespace
}  // namespace larder
