// http sources: what the manifest promises is what a program reads, or it gets an errno.
#include "cached/store/web/manifest.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>

#include "cached/store/api/distinct_keys.h"
#include "tests/cached/store/http/live_server.h"

namespace larder {
namespace {

using namespace larder::testing;
using nlohmann::json;

TEST(Manifest, LinesOfAllKinds) {
  auto page = parse_manifest(
      "{\"path\":\"b "
      "\\u6d4b\",\"size\":7,\"etag\":\"\\\"e-1\\\"\",\"crc32\":\"D87F7DB5\",\"mtime\":\"2014-06-13T05:57:36Z\"}\r\n"
      "\n{\"size\":0,\"path\":\"a\",\"md5\":null,\"etag\":\"W/\\\"weak\\\"\",\"more\":[1]}");
  ASSERT_TRUE(page.ok()) << page.error().message;
  ASSERT_EQ(page->objects.size(), 2u);
  EXPECT_EQ(page->objects[0].key, "b 测");
  EXPECT_EQ(page->objects[0].size, 7u);
  EXPECT_EQ(page->objects[0].etag, "crc32:D87F7DB5;e-1");
  EXPECT_EQ(page->objects[0].mtime_ns, 1402639056'000'000'000);
  EXPECT_EQ(page->objects[1].etag, ";W/weak");
  EXPECT_TRUE(parse_manifest("")->objects.empty());
}

TEST(Manifest, BadLinesAreNamed) {
  for (const char* bad : {"x", "[]", "{}", R"({"path":"a"})", R"({"path":"","size":1})", R"({"path":"/a","size":1})",
                          R"({"path":1,"size":1})", R"({"path":"a","size":-1})", R"({"path":"a","size":"1"})",
                          R"({"path":"a","size":18446744073709551615})", R"({"path":"a","size":1,"crc32":"12"})",
                          R"({"path":"a","size":1,"md5":"zz"})", R"({"path":"a","size":1,"etag":5})",
                          R"({"path":"a","size":1,"mtime":"yesterday"})", "{\"path\":\"\xff\",\"size\":1}"}) {
    auto page = parse_manifest("{\"path\":\"good\",\"size\":1}\n" + std::string(bad));
    ASSERT_FALSE(page.ok()) << bad;
    EXPECT_TRUE(page.error().message.starts_with("larder-manifest.jsonl line 2: ")) << page.error().message;
  }
}

TEST(Manifest, Versions) {
  EXPECT_EQ(manifest_version("crc32:00000001;e;f").if_match, "e;f");
  EXPECT_EQ(manifest_version("crc32:00000001;").sum.crc->value, 1u);
  EXPECT_EQ(manifest_version(";W/e").if_match, "") << "If-Match never matches a weak etag";
  EXPECT_EQ(manifest_version(";W/e").weak, "e");
  EXPECT_EQ(manifest_version("md5:00000000000000000000000000000000;").sum.md5, Md5{});
  for (const char* none : {"", ";", "crc32:1;", "md5:;"}) {
    EXPECT_EQ(manifest_version(none).if_match, "") << none;
    EXPECT_FALSE(manifest_version(none).sum.known()) << none;
  }
}

class ManifestTest : public ::testing::Test {
 protected:
  void serve(std::vector<std::string> more = {}) {
    std::vector<std::string> command = {"python3", "tests/tools/file_server.py", "--dir", dir_.path()};
    command.insert(command.end(), more.begin(), more.end());
    server_ = std::make_unique<JsonChild>(command);
    ASSERT_TRUE(server_->line().is_object()) << "the file server did not start";
    endpoint_ = server_->line()["endpoint"];
  }

  // Writes a file below "data set" and gives its manifest line.
  json put(const std::string& path, const std::string& data) {
    const std::string file = dir_.path() + "/data set/" + path;
    std::filesystem::create_directories(std::filesystem::path(file).parent_path());
    std::ofstream(file, std::ios::binary) << data;
    return {{"path", path}, {"size", data.size()}};
  }

  void manifest(const std::vector<json>& lines) {
    std::ofstream file(dir_.path() + "/data set/larder-manifest.jsonl");
    for (auto& line : lines)
      file << line.dump() << "\n";
  }

  std::unique_ptr<Store> open(StoreOptions options = {}, std::string endpoint = {}) {
    auto store = open_store((endpoint.empty() ? endpoint_ : endpoint) + "/data%20set", options);
    EXPECT_TRUE(store.ok()) << store.error().message;
    return store.ok() ? std::move(*store) : nullptr;
  }

  std::string etag(const std::string& path) {  // what the server says
    const std::string full = open()->head(path)->etag;
    return full.substr(full.find(';') + 1);
  }

  static void set_date(const std::filesystem::path& file, time_t seconds) {
    std::filesystem::last_write_time(
        file, std::filesystem::file_time_type::clock::from_sys(std::chrono::system_clock::from_time_t(seconds)));
  }

  static std::string crc(const std::string& data) {
    char out[9];
    snprintf(out, sizeof out, "%08lx", crc32_z(0, reinterpret_cast<const Bytef*>(data.data()), data.size()));
    return out;
  }

  TempDir dir_;
  std::unique_ptr<JsonChild> server_;
  std::string endpoint_;
};

TEST_F(ManifestTest, NamesSizesAndRanges) {
  serve();
  std::vector<json> lines;
  std::map<std::string, std::string> wanted;
  for (const char* name :
       {"z last", "with space", "pct%20", "q?x=1#f", "ünï/测试.jpg", "a/b", "a-b", "plus+", "amp&'\""}) {
    lines.push_back(put(name, wanted[name] = "content of " + std::string(name)));
  }
  for (size_t size : {size_t{0}, size_t{1}, size_t{110'000}, size_t{20'000'001}}) {
    const std::string name = "s" + std::to_string(size);
    json line = put(name, wanted[name] = pattern(size, size));
    line["etag"] = etag(name);
    line["crc32"] = crc(wanted[name]);
    lines.push_back(line);
  }
  manifest(lines);
  auto store = open();
  auto listed = list_all(*store);
  ASSERT_TRUE(listed.ok()) << listed.error().message;
  ASSERT_EQ(listed->size(), wanted.size());
  std::string last;
  for (auto& object : *listed) {
    EXPECT_LT(last, object.key) << "ascending byte order";
    last = object.key;
    auto all = get_all(*store, object);
    EXPECT_TRUE(all.status.ok()) << all.status.error().message;
    EXPECT_TRUE(all.data == wanted[object.key]) << object.key;
    if (object.size < 2) continue;
    auto part = get_range(*store, object, object.size / 3, object.size / 2);
    EXPECT_TRUE(part.status.ok()) << part.status.error().message;
    EXPECT_TRUE(part.data == wanted[object.key].substr(object.size / 3, object.size / 2)) << object.key;
  }
}

TEST_F(ManifestTest, SumsFindFlippedBitsAndOldFiles) {
  serve();
  const std::string data = pattern(110'000);
  json line = put("f", data);
  line["crc32"] = crc(data);
  manifest({line});
  FaultProxy proxy(endpoint_);
  auto store = open({{"retries", "2"}}, proxy.endpoint);
  auto object = list_all(*store)->front();
  proxy.rules(json::array({{{"match", "/f$"}, {"fault", "flip"}, {"at", 4711}, {"count", 1}}}));
  auto got = get_all(*store, object);
  EXPECT_TRUE(got.status.ok()) << got.status.error().message;
  EXPECT_TRUE(got.data == data);
  EXPECT_EQ(store->counters().retries, 1u);
  put("f", pattern(110'000, 2));  // another content of the same size: no etag tells, the sum does
  auto wrong = get_all(*store, object);
  ASSERT_FALSE(wrong.status.ok());
  EXPECT_EQ(wrong.data, "");
  EXPECT_NE(wrong.status.error().message.find("checksum"), std::string::npos);
  EXPECT_TRUE(get_all(*open({{"verify", "never"}}), object).status.ok());
}

TEST_F(ManifestTest, AReplacedFileIsStale) {
  serve();
  json line = put("f", "first");
  line["etag"] = etag("f");
  manifest({line, put("g", "same")});
  auto store = open();
  auto listed = *list_all(*store);
  EXPECT_EQ(get_all(*store, listed[0]).data, "first");
  put("f", "newer");
  put("g", "longer than it was");
  EXPECT_EQ(get_all(*store, listed[0]).status.error().code, ESTALE) << "by its etag";
  EXPECT_EQ(get_all(*store, listed[1]).status.error().code, ESTALE) << "by its size";
  std::filesystem::remove(dir_.path() + "/data set/f");
  EXPECT_EQ(get_all(*store, listed[0]).status.error().code, ENOENT);
}

// Neither etag nor sum: the date tells, or nothing does.
TEST_F(ManifestTest, AReplacedFileOfTheSameSizeIsStaleByItsDate) {
  for (auto& flags : std::vector<std::vector<std::string>>{{}, {"--weak-etags"}, {"--no-etags"}}) {
    serve(flags);
    json line = put("f", "first");
    const std::filesystem::path file = dir_.path() + "/data set/f";
    set_date(file, 1'700'000'000);
    line["mtime"] = "2023-11-14T22:13:20.7Z";
    manifest({line});
    auto store = open();
    auto listed = *list_all(*store);
    EXPECT_EQ(get_all(*store, listed[0]).data, "first");
    put("f", "newer");
    set_date(file, 1'700'000'100);
    const Got got = get_all(*store, listed[0]);
    EXPECT_EQ(got.status.error().code, ESTALE) << got.data;
    line["mtime"] = "2023-11-14T22:15:00Z";
    manifest({line});
    EXPECT_EQ(get_all(*store, list_all(*store)->front()).data, "newer");
  }
}

TEST_F(ManifestTest, AWeakEtagIsComparedThoughItIsNotSent) {
  serve({"--weak-etags"});
  json line = put("f", "first");
  line["etag"] = "W/\"" + etag("f").substr(2) + "\"";
  manifest({line});
  auto store = open();
  auto listed = *list_all(*store);
  EXPECT_EQ(get_all(*store, listed[0]).data, "first");
  put("f", "newer");
  EXPECT_EQ(get_all(*store, listed[0]).status.error().code, ESTALE);
}

// A body that was cut, of a server that tells nothing by which to know the rest: it is fetched from the start, or
// whoever has its first bytes is told so.
TEST_F(ManifestTest, WithoutEtagAndDateACutBodyIsNotGoneOnWith) {
  for (size_t size : {size_t{500'000}, size_t{9'000'000}}) {
    serve({"--no-etags", "--no-dates"});
    const std::string data = pattern(size);
    manifest({put("f", data)});
    FaultProxy proxy(endpoint_);
    auto store = open({}, proxy.endpoint);
    auto object = list_all(*store)->front();
    proxy.rules(json::array({{{"match", "/f$"}, {"fault", "reset"}, {"at", 300'000}, {"count", 1}}}));
    auto got = get_all(*store, object);
    if (got.status.ok())
      EXPECT_TRUE(got.data == data);
    else
      EXPECT_EQ(got.status.error().code, kWrongBytes) << got.status.error().message;
    EXPECT_EQ(got.status.ok(), size < 1'000'000);
  }
}

// A cut body is resumed by a range. If-Match with a weak etag would be refused, so it is not sent.
TEST_F(ManifestTest, ResumesWithEveryKindOfEtag) {
  for (auto& flags : std::vector<std::vector<std::string>>{{}, {"--weak-etags"}, {"--no-etags"}}) {
    serve(flags);
    const std::string data = pattern(3'000'000);
    manifest({put("f", data)});
    FaultProxy proxy(endpoint_);
    auto store = open({}, proxy.endpoint);
    auto object = list_all(*store)->front();
    proxy.rules(json::array({{{"match", "/f$"}, {"fault", "reset"}, {"at", 1'000'000}, {"count", 1}}}));
    auto got = get_all(*store, object);
    EXPECT_TRUE(got.status.ok()) << got.status.error().message;
    EXPECT_TRUE(got.data == data);
    EXPECT_EQ(store->counters().gets, 2u);
  }
}

TEST_F(ManifestTest, WhatIsWrongIsNamed) {
  serve();
  put("f", "x");
  auto none = list_all(*open());
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().code, ENOENT);
  EXPECT_NE(none.error().message.find("/data%20set/larder-manifest.jsonl"), std::string::npos) << none.error().message;
  manifest({{{"path", "f"}}});
  auto bad = list_all(*open());
  ASSERT_FALSE(bad.ok());
  EXPECT_NE(bad.error().message.find("line 1: size must be"), std::string::npos) << bad.error().message;
}

TEST_F(ManifestTest, OfALineThatIsThereTwiceTheLaterCounts) {
  serve();
  put("f", "x");
  manifest({{{"path", "f"}, {"size", 1}}, {{"path", "a"}, {"size", 7}}, {{"path", "f"}, {"size", 2}}});
  std::vector<uint64_t> sizes;
  ListedTwice twice;
  const auto page = [&](std::vector<ObjectInfo>&& objects) -> Status {
    for (auto& o : objects)
      sizes.push_back(o.size);
    return {};
  };
  ASSERT_TRUE(list_distinct(*open(), page, twice).ok());
  EXPECT_EQ(sizes, (std::vector<uint64_t>{7, 2}));
  EXPECT_EQ(twice.count, 1u);
}

}  // namespace
}  // namespace larder
