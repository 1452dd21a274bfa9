// s3:// against a real server (SeaweedFS) and through a proxy that breaks things: what a training job would lose is a
// wrong byte, a hang, or an errno that names the wrong cause.
#include "cached/store/s3/s3.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>

#include "cached/store/api/upload.h"
#include "cached/store/checksum/crc.h"
#include "cached/store/checksum/digest.h"
#include "tests/cached/store/http/live_server.h"

namespace larder {
namespace {

using namespace larder::testing;
using nlohmann::json;

const Environment kEmptyEnvironment = [](const char*) -> std::optional<std::string> { return std::nullopt; };

class S3Test : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string why;
    server_ = LiveS3::instance(why);
    if (server_ == nullptr) GTEST_SKIP() << why;
  }

  std::unique_ptr<Store> open(const std::string& source, StoreOptions more = {}) {
    StoreOptions options = server_->options();
    for (auto& [name, value] : more)
      options[name] = value;
    auto store = open_store(source, options);
    EXPECT_TRUE(store.ok()) << store.error().message;
    return store.ok() ? std::move(*store) : nullptr;
  }

  // A bucket that holds one object, seen through a proxy.
  struct Faulty {
    std::unique_ptr<FaultProxy> proxy;
    std::unique_ptr<Store> store;
    ObjectInfo object;
    std::string data;
  };
  Faulty faulty(size_t bytes, StoreOptions more = {}) {
    Faulty f;
    static std::atomic<int> counter{0};
    const std::string key = "f" + std::to_string(++counter);
    f.data = pattern(bytes, static_cast<uint64_t>(counter));
    server_->make_bucket("faulty");
    server_->put("faulty", key, f.data);
    f.proxy = std::make_unique<FaultProxy>(server_->endpoint);
    more["endpoint"] = f.proxy->endpoint;
    f.store = open("s3://faulty", more);
    auto head = f.store->head(key);
    EXPECT_TRUE(head.ok()) << head.error().message;
    f.object = *head;
    f.proxy->clear_log();
    return f;
  }

  LiveS3* server_ = nullptr;
};

TEST_F(S3Test, NamesOfAllKindsAreListedAndRead) {
  server_->make_bucket("names");
  const std::vector<std::string> keys = {"plain.txt", "with space",   "plus+sign",      "percent%25",   "pct%",
                                         "q?x=1#f",   "ünï/测试.jpg", "emoji/😀",        "a-b",          "a/b",
                                         "a.txt",     "a0",           "amp&<>'\"",      "~tilde*()!$;", " lead",
                                         "trail ",    "deep/1/2/3/4", "tab\x01\x02ctl", "eq=uals",      "comma,semi;",
                                         "at@colon:", "[brackets]",   "new\nline"};
  std::map<std::string, std::string> wanted;
  for (auto& key : keys)
    server_->put("names", "pre fix+/" + key, wanted[key] = "content of " + key);
  server_->put("names", "elsewhere", "not below the prefix");
  auto store = open("s3://names/pre fix+");
  auto listed = list_all(*store);
  ASSERT_TRUE(listed.ok()) << listed.error().message;
  std::map<std::string, std::string> got;
  std::string last;
  for (auto& object : *listed) {
    EXPECT_LT(last, object.key) << "ascending byte order";
    last = object.key;
    auto one = get_all(*store, object);
    EXPECT_TRUE(one.status.ok()) << one.status.error().message;
    got[object.key] = one.data;
    EXPECT_GT(object.mtime_ns, 1'600'000'000'000'000'000);
  }
  EXPECT_EQ(got, wanted);
}

TEST_F(S3Test, EmptyObjectsAndFolderMarkers) {
  server_->make_bucket("empties");
  server_->put("empties", "p/empty", "");
  server_->put("empties", "p/folder/", "");
  auto store = open("s3://empties/p/");
  auto listed = list_all(*store);
  ASSERT_TRUE(listed.ok()) << listed.error().message;
  ASSERT_EQ(listed->size(), 2u);
  EXPECT_EQ((*listed)[0].key, "empty");
  EXPECT_EQ((*listed)[1].key, "folder/");
  auto got = get_all(*store, (*listed)[0]);
  EXPECT_TRUE(got.status.ok()) << got.status.error().message;
  EXPECT_EQ(got.data, "");
}

TEST_F(S3Test, PagesOfAListJoinWithoutGapOrRepetition) {
  server_->make_bucket("pages");
  auto store = open("s3://pages");
  std::vector<std::future<void>> putters;
  for (int t = 0; t < 8; ++t) {
    putters.push_back(std::async(std::launch::async, [this, t] {
      for (int i = t; i < 2500; i += 8) {
        char key[32];
        snprintf(key, sizeof key, "d%02d/file %06d", i / 100, i);
        server_->put("pages", key, std::to_string(i));
      }
    }));
  }
  for (auto& p : putters)
    p.get();
  auto listed = list_all(*store);
  ASSERT_TRUE(listed.ok()) << listed.error().message;
  ASSERT_EQ(listed->size(), 2500u);
  for (int i = 0; i < 2500; ++i) {
    char key[32];
    snprintf(key, sizeof key, "d%02d/file %06d", i / 100, i);
    EXPECT_EQ((*listed)[static_cast<size_t>(i)].key, key);
  }
  EXPECT_GE(store->counters().lists, 3u);
}

TEST_F(S3Test, AListThatTheReceiverStopsEndsWithItsError) {
  server_->make_bucket("stops");
  server_->put("stops", "k", "v");
  auto store = open("s3://stops");
  auto status = store->list([](auto&&) -> Status { return make_error(ENOSPC, "no room"); });
  EXPECT_EQ(status.error().code, ENOSPC);
}

TEST_F(S3Test, RangesGiveExactlyTheirBytes) {
  auto f = faulty(300'000);
  for (auto [offset, length] :
       {std::pair<uint64_t, uint64_t>{0, 1}, {0, 300'000}, {299'999, 1}, {1000, 65'536}, {0, 299'999}}) {
    auto got = get_range(*f.store, f.object, offset, length);
    ASSERT_TRUE(got.status.ok()) << got.status.error().message;
    EXPECT_EQ(got.data, f.data.substr(offset, length));
  }
}

TEST_F(S3Test, LargeObjectsComeByParallelRangesInOrder) {
  auto f = faulty(40u << 20);
  f.proxy->latency(20);
  auto got = get_all(*f.store, f.object);
  ASSERT_TRUE(got.status.ok()) << got.status.error().message;
  EXPECT_TRUE(got.data == f.data);
  auto log = f.proxy->log();
  EXPECT_EQ(log["counts"]["GET"], 5);
  EXPECT_GE(log["max_in_flight"], 3);
  for (auto& request : log["requests"])
    EXPECT_EQ(request["if_match"], "\"" + f.object.etag + "\"");
}

TEST_F(S3Test, SomeBytesOfALargeObjectThatIsCutAreNotFetchedTwice) {
  auto f = faulty(24u << 20);
  f.proxy->rules({{{"match", "^GET "}, {"fault", "reset"}, {"at", 3'000'000}, {"count", 2}},
                  {{"match", "^GET "}, {"fault", "truncate"}, {"at", 1'000'000}, {"count", 1}}});
  auto got = get_all(*f.store, f.object);
  ASSERT_TRUE(got.status.ok()) << got.status.error().message;
  EXPECT_TRUE(got.data == f.data);
  EXPECT_LT(f.store->counters().bytes, (24u << 20) + 100'000u);
}

TEST_F(S3Test, ReceiverThatFailsEndsTheRequestOnce) {
  auto f = faulty(40u << 20);
  std::promise<Status> done;
  std::atomic<int> ends{0}, after{0};
  GetRequest request{f.object.key, f.object.etag, 0, f.object.size, f.object.size, true, nullptr, nullptr};
  uint64_t seen = 0;
  request.on_data = [&](std::span<const std::byte> data) -> Status {
    if (seen > (9u << 20)) {
      ++after;
      return make_error(ENOSPC, "full");
    }
    seen += data.size();
    return {};
  };
  request.on_done = [&](Status status) {
    ++ends;
    done.set_value(std::move(status));
  };
  f.store->get(std::move(request));
  EXPECT_EQ(done.get_future().get().error().code, ENOSPC);
  f.store.reset();
  EXPECT_EQ(ends, 1);
  EXPECT_EQ(after, 1);
}

// Each fault happens once or twice, then the store recovers: the bytes are right, and the reader notices nothing.
TEST_F(S3Test, EveryCurableFaultIsCured) {
  auto f = faulty(110'000, {{"stall_timeout_ms", "500"}, {"connect_timeout_ms", "500"}});
  const std::vector<json> faults = {
      {{"fault", "status"}, {"status", 500}, {"code", "InternalError"}},
      {{"fault", "status"}, {"status", 503}, {"code", "SlowDown"}},
      {{"fault", "status"}, {"status", 429}, {"code", "TooManyRequests"}},
      {{"fault", "status"}, {"status", 400}, {"code", "RequestTimeout"}},
      {{"fault", "refuse"}},
      {{"fault", "reset"}, {"at", 0}},
      {{"fault", "reset"}, {"at", 50'000}},
      {{"fault", "truncate"}, {"at", 109'999}},
      {{"fault", "length"}, {"by", 1}},
      {{"fault", "length"}, {"by", -1}},
      {{"fault", "flip"}, {"at", 77'777}},
      {{"fault", "stall"}, {"at", 20'000}},
      {{"fault", "stall"}, {"at", 0}},
      {{"fault", "headers"}, {"headers", {{"ETag", nullptr}}}},
  };
  for (auto fault : faults) {
    SCOPED_TRACE(fault.dump());
    fault["match"] = "^GET ";
    fault["count"] = 2;
    f.proxy->rules(json::array({fault}));
    auto got = get_all(*f.store, f.object);
    ASSERT_TRUE(got.status.ok()) << got.status.error().message;
    EXPECT_TRUE(got.data == f.data);
    EXPECT_EQ(got.pieces, 1) << "small objects are delivered at once";
    EXPECT_GE(f.proxy->log()["faults"][fault["fault"].get<std::string>()], 1);
  }
}

TEST_F(S3Test, WrongRangeInAReplyIsNotDelivered) {
  auto f = faulty(100'000);
  f.proxy->rules(json::array({{{"match", "^GET "},
                               {"fault", "headers"},
                               {"count", 1},
                               {"headers", {{"Content-Range", "bytes 0-9999/100000"}}}}}));
  auto got = get_range(*f.store, f.object, 50'000, 10'000);
  ASSERT_TRUE(got.status.ok()) << got.status.error().message;
  EXPECT_TRUE(got.data == f.data.substr(50'000, 10'000));
  EXPECT_EQ(f.store->counters().retries, 1u);
}

TEST_F(S3Test, FaultsThatStayBecomeAnErrorThatNamesTheObject) {
  auto f = faulty(110'000, {{"retries", "2"}});
  f.proxy->rules(json::array({{{"match", "^GET "}, {"fault", "status"}, {"status", 503}}}));
  auto got = get_all(*f.store, f.object);
  ASSERT_FALSE(got.status.ok());
  EXPECT_EQ(got.status.error().code, EIO);
  EXPECT_EQ(got.status.error().message,
            "s3://faulty/" + f.object.key +
                ": HTTP 503 SlowDown: injected by fault_proxy (request id FAULT) (after 3 attempts)");
  EXPECT_EQ(got.data, "");
  EXPECT_EQ(f.store->counters().errors, 1u);
  EXPECT_EQ(f.store->counters().gets, 3u);
}

TEST_F(S3Test, AlwaysFlippedBytesAreAnErrorNotData) {
  auto f = faulty(110'000, {{"retries", "1"}});
  f.proxy->rules(json::array({{{"match", "^GET "}, {"fault", "flip"}, {"at", 5}}}));
  auto got = get_all(*f.store, f.object);
  EXPECT_EQ(got.status.error().code, EIO);
  EXPECT_EQ(got.data, "");
}

std::string crc_text(CrcKind kind, std::string_view data) {
  const uint64_t crc = crc_update(kind, 0, std::as_bytes(std::span(data)));
  std::vector<unsigned char> bytes;
  for (int i = crc_bytes(kind) - 1; i >= 0; --i)
    bytes.push_back(static_cast<unsigned char>(crc >> 8 * i));
  return base64(bytes);
}

const std::vector<std::pair<const char*, CrcKind>> kCrcHeaders = {{"x-amz-checksum-crc64nvme", CrcKind::kCrc64Nvme},
                                                                  {"x-amz-checksum-crc32c", CrcKind::kCrc32c},
                                                                  {"x-amz-checksum-crc32", CrcKind::kCrc32}};

// SeaweedFS has none of Amazon's checksums, so the proxy adds them. The CRC decides, whatever the bytes are.
TEST_F(S3Test, WholeObjectsAreComparedWithTheCrcOfTheReply) {
  for (size_t size : {110'000, 3'000'000,
                      6'000'000}) {  // kept whole, kept whole once the store is known to have CRCs, passed on in pieces
    auto f = faulty(size, {{"retries", "1"}});
    for (auto& [name, kind] : kCrcHeaders) {
      SCOPED_TRACE(name);
      const uint64_t gets = f.store->counters().gets;
      f.proxy->rules(
          json::array({{{"match", "^GET "}, {"fault", "headers"}, {"headers", {{name, crc_text(kind, f.data)}}}}}));
      auto right = get_all(*f.store, f.object);
      EXPECT_TRUE(right.status.ok()) << right.status.error().message;
      EXPECT_TRUE(right.data == f.data);
      EXPECT_EQ(f.store->counters().gets, gets + 1);
      f.proxy->rules(json::array(
          {{{"match", "^GET "}, {"fault", "headers"}, {"headers", {{name, crc_text(kind, f.data + "x")}}}}}));
      auto wrong = get_all(*f.store, f.object);
      EXPECT_FALSE(wrong.status.ok());
      if (size < 4'000'000)
        EXPECT_EQ(wrong.data, "");
      else
        EXPECT_EQ(wrong.status.error().code, kWrongBytes);
    }
  }
}

TEST_F(S3Test, FlippedBytesAreSeenByTheCrcWhereTheEtagIsNoSum) {
  auto f = faulty(110'000);
  json headers = {{"x-amz-server-side-encryption", "aws:kms"},
                  {"x-amz-checksum-crc64nvme", crc_text(CrcKind::kCrc64Nvme, f.data)}};
  f.proxy->rules(
      json::array({{{"match", "^GET "}, {"fault", "flip"}, {"at", 109'999}, {"count", 2}, {"headers", headers}}}));
  auto got = get_all(*f.store, f.object);
  ASSERT_TRUE(got.status.ok()) << got.status.error().message;
  EXPECT_TRUE(got.data == f.data);
  EXPECT_EQ(f.store->counters().gets, 3u);
}

// Neither is a checksum of these bytes in this order.
TEST_F(S3Test, CrcsOfPartsAndOfRangesAreNotTakenForTheObjects) {
  auto f = faulty(110'000, {{"retries", "0"}});
  const std::string other = crc_text(CrcKind::kCrc32, "other bytes");
  for (const json& headers : {json{{"x-amz-checksum-crc32", other}, {"x-amz-checksum-type", "COMPOSITE"}},
                              json{{"x-amz-checksum-crc32", other + "-2"}}, json{{"x-amz-checksum-crc32", "AAAA"}},
                              json{{"x-amz-checksum-crc32", "?"}}, json{{"x-amz-checksum-sha1", other}}}) {
    f.proxy->rules(json::array({{{"match", "^GET "}, {"fault", "headers"}, {"headers", headers}}}));
    auto got = get_all(*f.store, f.object);
    EXPECT_TRUE(got.status.ok()) << headers << got.status.error().message;
  }
  f.proxy->rules(
      json::array({{{"match", "^GET "}, {"fault", "headers"}, {"headers", {{"x-amz-checksum-crc32", other}}}}}));
  EXPECT_TRUE(get_range(*f.store, f.object, 10, 20'000).status.ok());
  auto unverified = open("s3://faulty", {{"endpoint", f.proxy->endpoint}, {"verify", "never"}});
  EXPECT_TRUE(get_all(*unverified, f.object).status.ok());
}

// The parts of a large object have no sum of the whole; a HEAD returns it.
TEST_F(S3Test, LargeObjectsAreComparedWithTheCrcOfAHead) {
  auto f = faulty(20 << 20);
  const auto head = [](json headers) {
    return json{{"match", "^HEAD "}, {"fault", "headers"}, {"headers", std::move(headers)}};
  };
  for (auto& [name, kind] : kCrcHeaders) {
    SCOPED_TRACE(name);
    f.proxy->rules(json::array({head({{name, crc_text(kind, f.data)}})}));
    auto right = get_all(*f.store, f.object);
    EXPECT_TRUE(right.status.ok()) << right.status.error().message;
    f.proxy->rules(json::array({head({{name, crc_text(kind, f.data + "x")}})}));
    EXPECT_EQ(get_all(*f.store, f.object).status.error().code, kWrongBytes);
  }
  const json flip = {{"match", "^GET "}, {"fault", "flip"}, {"at", 4321}, {"count", 1}};
  f.proxy->rules(json::array({head({{"x-amz-checksum-crc32c", crc_text(CrcKind::kCrc32c, f.data)}}), flip}));
  EXPECT_EQ(get_all(*f.store, f.object).status.error().code, kWrongBytes);
}

TEST_F(S3Test, WithoutAnAnswerToTheHeadItIsTheEtag) {
  auto f = faulty(20 << 20, {{"retries", "1"}});
  const json refused = {{"match", "^HEAD "}, {"fault", "status"}, {"status", 403}, {"code", "AccessDenied"}};
  const json late = {{"match", "^HEAD "}, {"fault", "delay"}, {"delay", 1}};
  const json other = {
      {"match", "^HEAD "},
      {"fault", "headers"},
      {"headers", {{"ETag", "\"other\""}, {"x-amz-checksum-crc32", crc_text(CrcKind::kCrc32, "other")}}}};
  for (const json& answer : {refused, late, other}) {
    SCOPED_TRACE(answer.dump());
    f.proxy->rules(json::array({answer}));
    auto got = get_all(*f.store, f.object);
    EXPECT_TRUE(got.status.ok()) << got.status.error().message;
    EXPECT_TRUE(got.data == f.data);
    f.proxy->rules(json::array({answer, {{"match", "^GET "}, {"fault", "flip"}, {"at", 7}, {"count", 1}}}));
    EXPECT_EQ(get_all(*f.store, f.object).status.error().code, kWrongBytes);
  }
}

// Bodies of all sizes wait for each other, so that their MD5s are computed side by side: only the wrong one is refused.
TEST_F(S3Test, BodiesHashedTogetherAreEachJudgedByTheirOwnSum) {
  auto f = faulty(110'000, {{"retries", "1"}});
  std::vector<ObjectInfo> objects;
  std::vector<std::string> contents;
  for (size_t size : {size_t{1}, size_t{55}, size_t{64}, size_t{4'000}, size_t{70'000}, size_t{300'000},
                      size_t{1'500'000}, size_t{90'000}}) {
    const std::string key = "together" + std::to_string(size);
    contents.push_back(pattern(size, size));
    server_->put("faulty", key, contents.back());
    objects.push_back(*f.store->head(key));
  }
  f.proxy->rules(json::array({{{"match", "^GET /faulty/together90000"}, {"fault", "flip"}, {"at", 89'999}}}));
  constexpr size_t kReads = 120;
  std::vector<std::string> bodies(kReads);
  std::vector<Status> ends(kReads);
  std::atomic<size_t> left{kReads};
  std::promise<void> all;
  for (size_t i = 0; i < kReads; ++i) {
    const ObjectInfo& o = objects[i % objects.size()];
    GetRequest request{o.key, o.etag, 0, o.size, o.size, i % 5 == 0, nullptr, nullptr};
    request.on_data = [&, i](std::span<const std::byte> data) -> Status {
      bodies[i].append(reinterpret_cast<const char*>(data.data()), data.size());
      return {};
    };
    request.on_done = [&, i](Status status) {
      ends[i] = std::move(status);
      if (--left == 0) all.set_value();
    };
    f.store->get(std::move(request));
  }
  all.get_future().get();
  for (size_t i = 0; i < kReads; ++i) {
    const bool flipped = i % objects.size() == objects.size() - 1;
    ASSERT_EQ(ends[i].ok(), !flipped) << i;
    ASSERT_TRUE(bodies[i] == (flipped ? "" : contents[i % objects.size()])) << i;
  }
  EXPECT_EQ(get_range(*f.store, objects[4], 0, objects[4].size, false).data, contents[4])
      << "with no other to wait for";
}

TEST_F(S3Test, TenPercentFaultsCostNoReadItsBytes) {
  auto f = faulty(110'000, {{"stall_timeout_ms", "300"}});
  f.proxy->rules(json::array({{{"match", "^GET "}, {"fault", "reset"}, {"at", 40'000}, {"probability", 0.02}},
                              {{"match", "^GET "}, {"fault", "truncate"}, {"at", 90'000}, {"probability", 0.02}},
                              {{"match", "^GET "}, {"fault", "flip"}, {"at", 1'000}, {"probability", 0.02}},
                              {{"match", "^GET "}, {"fault", "status"}, {"status", 500}, {"probability", 0.02}},
                              {{"match", "^GET "}, {"fault", "status"}, {"status", 503}, {"probability", 0.01}},
                              {{"match", "^GET "}, {"fault", "stall"}, {"at", 60'000}, {"probability", 0.005}}}));
  constexpr int kReads = 600;
  std::atomic<int> wrong{0}, failed{0}, left{kReads};
  std::promise<void> all;
  std::vector<std::string> bodies(kReads);
  for (int i = 0; i < kReads; ++i) {
    GetRequest request{f.object.key, f.object.etag, 0, f.object.size, f.object.size, i % 2 == 0, nullptr, nullptr};
    request.on_data = [&, i](std::span<const std::byte> data) -> Status {
      bodies[static_cast<size_t>(i)].append(reinterpret_cast<const char*>(data.data()), data.size());
      return {};
    };
    request.on_done = [&, i](Status status) {
      if (!status.ok()) ++failed;
      if (bodies[static_cast<size_t>(i)] != f.data) ++wrong;
      bodies[static_cast<size_t>(i)] = {};
      if (--left == 0) all.set_value();
    };
    f.store->get(std::move(request));
  }
  all.get_future().get();
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(f.store->counters().retries, 10u);
}

TEST_F(S3Test, AChangedObjectIsStaleNeverAMix) {
  auto f = faulty(24u << 20);
  f.proxy->rules(json::array({{{"match", "^GET "}, {"fault", "reset"}, {"at", 1'000'000}, {"count", 3}}}));
  std::promise<Status> done;
  std::string got;
  GetRequest request{f.object.key, f.object.etag, 0, f.object.size, f.object.size, true, nullptr, nullptr};
  request.on_data = [&](std::span<const std::byte> data) -> Status {
    // The object is replaced when its first bytes are here; the rest of the first part is asked for afterwards.
    if (got.empty()) server_->put("faulty", f.object.key, pattern(24u << 20, 99));
    got.append(reinterpret_cast<const char*>(data.data()), data.size());
    return {};
  };
  request.on_done = [&](Status status) { done.set_value(std::move(status)); };
  f.store->get(std::move(request));
  const Status status = done.get_future().get();
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ESTALE) << status.error().message;
  EXPECT_EQ(f.data.compare(0, got.size(), got), 0);
  auto small = faulty(1000);
  server_->put("faulty", small.object.key, "another");
  EXPECT_EQ(get_all(*small.store, small.object).status.error().code, ESTALE);
  small.object.etag.clear();  // known by its size alone
  EXPECT_EQ(get_all(*small.store, small.object).status.error().code, ESTALE);
}

TEST_F(S3Test, TheStoreCopiesTheVersionThatWasListedOrNone) {
  server_->make_bucket("copies");
  server_->put("copies", "old name+%.bin", "the bytes");
  auto store = open("s3://copies");
  auto object = store->head("old name+%.bin");
  ASSERT_TRUE(object.ok()) << object.error().message;
  const NewObject made{"new", object->size, 1'600'000'000'000'000'000, {}, 0, {}};
  const Status stale = store->writer()->copy(made, {"copies", "old name+%.bin", "0123456789abcdef0123456789abcdef"});
  EXPECT_FALSE(stale.ok());
  const Status copied = store->writer()->copy(made, {"copies", "old name+%.bin", object->etag});
  EXPECT_TRUE(copied.ok()) << copied.error().message;
  EXPECT_EQ(get_all(*store, *store->head("new")).data, "the bytes");
}

TEST_F(S3Test, MissingObjectBucketAndWrongKeysEachSayWhatIsWrong) {
  server_->make_bucket("errors");
  server_->put("errors", "k", "v");
  auto store = open("s3://errors");
  auto missing = get_all(*store, {"gone", 1, 0, ""});
  EXPECT_EQ(missing.status.error().code, ENOENT);
  EXPECT_NE(missing.status.error().message.find("s3://errors/gone: HTTP 404 NoSuchKey"), std::string::npos);
  EXPECT_EQ(store->head("gone").error().code, ENOENT);

  auto bucket = list_all(*open("s3://no-such-bucket/x"));
  ASSERT_FALSE(bucket.ok());
  EXPECT_EQ(bucket.error().code, ENOENT);
  EXPECT_NE(bucket.error().message.find("NoSuchBucket"), std::string::npos) << bucket.error().message;
  EXPECT_NE(bucket.error().message.find("check the bucket's name and the endpoint (" + server_->endpoint + ")"),
            std::string::npos);

  auto secret = list_all(*open("s3://errors", {{"secret_key", "wrong-secret"}}));
  ASSERT_FALSE(secret.ok());
  EXPECT_EQ(secret.error().code, EACCES);
  EXPECT_NE(secret.error().message.find("check the secret key"), std::string::npos) << secret.error().message;
  EXPECT_EQ(secret.error().message.find("wrong-secret"), std::string::npos) << "no secret in a message";
  auto access = list_all(*open("s3://errors", {{"access_key", "AKNOBODY"}}));
  ASSERT_FALSE(access.ok());
  EXPECT_EQ(access.error().code, EACCES);
  auto anonymous = list_all(*open("s3://errors", {{"anonymous", "true"}}));
  ASSERT_FALSE(anonymous.ok());
  EXPECT_EQ(anonymous.error().code, EACCES);
}

TEST_F(S3Test, UnreachableEndpointIsToldSoonAndClearly) {
  const auto start = std::chrono::steady_clock::now();
  auto store = open("s3://errors", {{"endpoint", "http://127.0.0.1:1"}});
  auto listed = list_all(*store);
  ASSERT_FALSE(listed.ok());
  EXPECT_EQ(listed.error().code, EIO);
  EXPECT_NE(listed.error().message.find("s3://errors/: cannot connect to http://127.0.0.1:1: "), std::string::npos)
      << listed.error().message;
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
  auto name = list_all(*open("s3://errors", {{"endpoint", "http://no-such-host.invalid"}}));
  ASSERT_FALSE(name.ok());
  EXPECT_NE(name.error().message.find("no-such-host.invalid"), std::string::npos) << name.error().message;
}

TEST_F(S3Test, WrongClockIsPutRightByTheStoresDate) {
  auto f = faulty(1000);
  f.proxy->rules(json::array({{{"match", "^GET "},
                               {"fault", "status"},
                               {"status", 403},
                               {"code", "RequestTimeTooSkewed"},
                               {"count", 1},
                               {"headers", {{"Date", "Wed, 01 Jan 2020 00:00:00 GMT"}}}}}));
  // The store's clock is wrong here: the second request carries its date, and the real server refuses it.
  auto got = get_all(*f.store, f.object);
  EXPECT_EQ(f.proxy->log()["counts"]["GET"], 3)
      << "refused by the lie, refused by the real clock, corrected by its Date";
  EXPECT_TRUE(got.status.ok()) << got.status.error().message;
  EXPECT_EQ(got.data, f.data);
}

TEST_F(S3Test, WrongRegionIsFollowedOnce) {
  auto f = faulty(1000);
  f.proxy->rules(json::array({{{"match", "^GET "},
                               {"fault", "status"},
                               {"status", 400},
                               {"code", "AuthorizationHeaderMalformed"},
                               {"extra", "<Region>eu-west-1</Region>"},
                               {"count", 1}}}));
  auto got = get_all(*f.store, f.object);
  EXPECT_TRUE(got.status.ok()) << got.status.error().message;
  EXPECT_EQ(f.proxy->log()["counts"]["GET"], 2);
  f.proxy->rules(json::array({{{"match", "^GET "},
                               {"fault", "status"},
                               {"status", 301},
                               {"code", "PermanentRedirect"},
                               {"extra", "<Region>eu-west-1</Region>"}}}));
  got = get_all(*f.store, f.object);  // the same region again: no loop
  EXPECT_EQ(got.status.error().code, EIO);
  EXPECT_NE(got.status.error().message.find("set the store option region"), std::string::npos)
      << got.status.error().message;
}

TEST_F(S3Test, ThrottlingLowersConcurrencyAndFillLeavesRoomForDemand) {
  auto f = faulty(1000);
  f.proxy->latency(100);
  std::atomic<int> left{200};
  std::promise<void> all;
  for (int i = 0; i < 200; ++i) {
    GetRequest request{f.object.key, f.object.etag, 0, f.object.size, f.object.size, false, nullptr, nullptr};
    request.on_data = [](auto) -> Status { return {}; };
    request.on_done = [&](Status) {
      if (--left == 0) all.set_value();
    };
    f.store->get(std::move(request));
  }
  auto got = get_all(*f.store, f.object);
  EXPECT_GT(left, 0) << "a demand GET waits for no fill GET";
  EXPECT_TRUE(got.status.ok());
  all.get_future().get();
  EXPECT_LE(f.proxy->log()["max_in_flight"], 64);
}

TEST_F(S3Test, FillThatAProgramWaitsForOvertakesFill) {
  auto f = faulty(1000, {{"max_connections", "8"}});
  f.proxy->latency(20);
  std::atomic<int> left{80}, left_at_hurried{80};
  std::promise<void> all;
  for (int i = 0; i < 80; ++i) {
    GetRequest request{
        i < 79 ? f.object.key : "hurried", f.object.etag, 0, f.object.size, f.object.size, false, nullptr, nullptr};
    request.on_data = [](auto) -> Status { return {}; };
    request.on_done = [&, i](Status) {
      if (i == 79) left_at_hurried = left.load();
      if (--left == 0) all.set_value();
    };
    f.store->get(std::move(request));
  }
  f.store->hurry("hurried");
  f.store->hurry("nobody asked for it");
  all.get_future().get();
  EXPECT_GT(left_at_hurried, 40) << "it was the last of eighty";
}

}  // namespace
}  // namespace larder
