// What a store says of uploads and removals, and how files are written: a reply that is read wrongly loses an object or
// calls a failure a success.
#include "cached/store/api/upload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "cached/store/bos/bos_write.h"
#include "cached/store/file/file_writer.h"
#include "cached/store/s3/s3_write.h"
#include "tests/cached/store/http/live_server.h"

namespace larder {
namespace {

namespace fs = std::filesystem;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

Bytes bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

TEST(S3WritingTest, ACompletionSucceededOnlyIfItsReplySaysSo) {
  const S3Writing words;
  EXPECT_EQ(words.parse_complete("\n <CompleteMultipartUploadResult/>").code, "");
  EXPECT_EQ(words.parse_complete("<Error><Code>InternalError</Code></Error>").code, "InternalError");
  EXPECT_NE(words.parse_complete("<html>proxy</html>").code, "");
  EXPECT_NE(words.parse_complete("cut sho").code, "");
}

TEST(S3WritingTest, ACopyNamesItsOriginalAndARangeOfItWhereItIsAPart) {
  const StoredObject original{"bkt", "a b/\xe6\xb5\x8b+", "e-3"};
  const NameValues whole = S3Writing().copy_headers(original, {});
  EXPECT_THAT(whole, UnorderedElementsAre(Pair("x-amz-copy-source", "/bkt/a%20b/%E6%B5%8B%2B"),
                                          Pair("x-amz-copy-source-if-match", "\"e-3\""),
                                          Pair("x-amz-metadata-directive", "REPLACE")));
  const NameValues part = S3Writing().copy_headers(original, ByteRange{8, 4});
  EXPECT_THAT(part, UnorderedElementsAre(Pair("x-amz-copy-source", "/bkt/a%20b/%E6%B5%8B%2B"),
                                         Pair("x-amz-copy-source-if-match", "\"e-3\""),
                                         Pair("x-amz-copy-source-range", "bytes=8-11")));
}

TEST(S3WritingTest, WhatA200SaysOfACopy) {
  const S3Writing words;
  for (const char* root : {"CopyPartResult", "CopyObjectResult"}) {
    const std::string body =
        std::string("<?xml version=\"1.0\"?><") + root + "><ETag>&quot;e&quot;</ETag></" + root + ">";
    EXPECT_EQ(words.parse_copied(body).error.code, "") << body;
    EXPECT_EQ(words.parse_copied(body).etag, "e") << body;
  }
  EXPECT_EQ(words.parse_copied(" \n<Error><Code>SlowDown</Code></Error>").error.code, "SlowDown");
  EXPECT_EQ(words.parse_copied("<CopyPartResult><ETag>cut").error.code, "InternalError");
  EXPECT_EQ(words.parse_copied("").etag, "") << "nothing was said of a part";
}

TEST(S3WritingTest, RootsOfOtherServersAreRead) {
  EXPECT_EQ(*S3Writing().parse_upload("<InitiateMultipartUpload><UploadId>u</UploadId></InitiateMultipartUpload>"), "u")
      << "rclone serve s3";
  const char* moto =
      "<ListPartsResponse><UploadId>u</UploadId><Part><PartNumber>2</PartNumber><ETag>e</ETag><Size>5</Size></Part></"
      "ListPartsResponse>";
  ASSERT_TRUE(S3Writing().parse_parts(moto).ok());
  EXPECT_EQ(S3Writing().parse_parts(moto)->parts.size(), 1u);
  EXPECT_FALSE(S3Writing().parse_parts("<html><body>proxy</body></html>").ok()) << "no part would be taken for there";
}

TEST(S3WritingTest, KeysOfABatchAreWrittenAsXmlOrNotAtAll) {
  const S3Writing words;
  const std::string body = words.remove_body({"a&<b>\"c\r\n"});
  EXPECT_NE(body.find("<Key>a&amp;&lt;b&gt;&quot;c&#13;&#10;</Key>"), std::string::npos) << body;
  EXPECT_TRUE(words.batch_can_name("测试/\t"));
  for (const char* key : {"\x01", "\xff", "\xc3", "\xe6\xb5"})
    EXPECT_FALSE(words.batch_can_name(key));
}

TEST(S3WritingTest, RefusalsOfABatchAreSeenAndThatAKeyWasGoneIsNone) {
  auto refused = S3Writing().parse_removed(
      "<DeleteResult><Error><Key>a</Key><Code>NoSuchKey</Code></Error><Error><Key>b</Key><Code>AccessDenied</Code></"
      "Error></DeleteResult>");
  ASSERT_TRUE(refused.ok());
  ASSERT_EQ(refused->size(), 1u);
  EXPECT_EQ(refused->front().key, "b");
  EXPECT_FALSE(S3Writing().parse_removed("").ok()) << "no word on what was removed";
}

TEST(S3WritingTest, TheEtagOfPartsIsTheMd5OfTheirMd5s) {
  const std::string empty = "d41d8cd98f00b204e9800998ecf8427e";
  EXPECT_EQ(s3_composite_etag({{1, 0, empty}}), "59adb24ef3cdbe0297f05b395827453f-1");  // md5(unhex(empty)), by md5sum
  EXPECT_EQ(s3_composite_etag({{1, 0, empty}, {2, 0, "random"}}), "") << "not every store's are MD5s";
}

TEST(BosWritingTest, RepliesAreReadAndKeysStayAsTheyAre) {
  const BosWriting words;
  EXPECT_EQ(words.parse_complete(R"({"key":"k","eTag":"e"})").code, "");
  EXPECT_EQ(words.parse_complete(R"({"code":"InvalidPart","message":"m"})").code, "InvalidPart");
  EXPECT_NE(words.parse_complete("").code, "");
  EXPECT_TRUE(words.parse_removed("")->empty());
  EXPECT_EQ(words.parse_removed(R"({"errors":[{"key":"a","code":"AccessDenied"}]})")->size(), 1u);
  EXPECT_FALSE(words.batch_can_name("\xff")) << "another key would be removed";
  auto page = words.parse_parts(R"({"isTruncated":true,"parts":[{"partNumber":7,"eTag":"\"e\"","size":5}]})");
  ASSERT_TRUE(page.ok());
  EXPECT_EQ(page->next, 7);
  EXPECT_EQ(page->parts.front().etag, "e");
}

TEST(BosWritingTest, ACopyNamesItsOriginalAndARangeOfItWhereItIsAPart) {
  const StoredObject original{"bkt", "a b", "-e"};
  EXPECT_THAT(BosWriting().copy_headers(original, {}),
              UnorderedElementsAre(Pair("x-bce-copy-source", "/bkt/a%20b"), Pair("x-bce-copy-source-if-match", "-e"),
                                   Pair("x-bce-metadata-directive", "replace")));
  EXPECT_THAT(BosWriting().copy_headers(original, ByteRange{0, 10}),
              UnorderedElementsAre(Pair("x-bce-copy-source", "/bkt/a%20b"), Pair("x-bce-copy-source-if-match", "-e"),
                                   Pair("x-bce-copy-source-range", "bytes=0-9")));
  for (const char* body : {R"({"lastModified":"x","eTag":"e"})", R"({"ETag":"\"e\""})"})
    EXPECT_EQ(BosWriting().parse_copied(body).etag, "e") << body;
  EXPECT_EQ(BosWriting().parse_copied(R"({"code":"EntityTooLarge","message":"m"})").error.code, "EntityTooLarge");
  for (const char* body : {"", "[]", R"({"eTag":7})"})
    EXPECT_EQ(BosWriting().parse_copied(body).error.code, "InternalError") << body;
}

TEST(UploadTest, PartsCoverTheObjectAndNeverAreMoreThanTenThousand) {
  for (uint64_t size : {uint64_t{1}, kUploadPartBytes, 5 * (uint64_t{1} << 30) + 1, 48 * (uint64_t{1} << 40)}) {
    NewObject object;
    object.size = size;
    object.part_bytes = upload_part_bytes(size);
    const int last = part_count(size, object.part_bytes);
    EXPECT_LE(last, kMaxUploadParts);
    EXPECT_EQ(part_offset(object, last) + part_size(object, last), size);
    EXPECT_GE(part_size(object, last), 1u);
  }
}

class FileWriterTest : public ::testing::Test {
 protected:
  static NewObject object(const std::string& key, uint64_t size) {
    NewObject out;
    out.key = key;
    out.size = size;
    out.mtime_ns = 1'600'000'000'123'456'789;
    out.version = "v1";
    out.part_bytes = 4;
    return out;
  }
  std::string read(const std::string& key) const {
    std::ifstream file(dir_.path() + "/" + key);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  size_t names() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(dir_.path()), fs::directory_iterator()));
  }

  testing::TempDir dir_;
  FileWriter writer_{dir_.path()};
};

TEST_F(FileWriterTest, AFileAppearsWithItsTimeAndNothingElse) {
  ASSERT_TRUE(writer_.put(object("a/b/c", 5), bytes("bytes")).ok());
  EXPECT_EQ(read("a/b/c"), "bytes");
  struct stat st {};
  ASSERT_EQ(stat((dir_.path() + "/a/b/c").c_str(), &st), 0);
  EXPECT_EQ(st.st_mtim.tv_nsec, 123'456'789);
  EXPECT_EQ(names(), 1u);
}

TEST_F(FileWriterTest, PartsOutliveTheirWriterAndBelongToOneVersion) {
  const NewObject made = object("f", 10);
  {
    FileWriter first(dir_.path());
    auto upload = first.create_upload(made);
    ASSERT_TRUE(upload.ok());
    ASSERT_TRUE(first.put_part(made, *upload, 2, bytes("4567")).ok());
    EXPECT_FALSE(first.complete_upload(made, *upload, std::vector<PartInfo>(3)).ok()) << "two parts are missing";
    EXPECT_EQ(writer_.create_upload(made).error().code, EBUSY) << "two processes at one file";
  }
  NewObject other = made;
  other.version = "v2";
  auto fresh = writer_.create_upload(other);
  EXPECT_TRUE(writer_.list_parts(other, *fresh)->empty()) << "bytes of another version";
  ASSERT_TRUE(writer_.abort_upload(other, *fresh).ok());
  auto upload = writer_.create_upload(made);
  ASSERT_TRUE(upload.ok());
  auto parts = *writer_.list_parts(made, *upload);
  ASSERT_EQ(parts.size(), 1u);
  EXPECT_EQ(parts.front().number, 2);
  ASSERT_TRUE(writer_.put_part(made, *upload, 3, bytes("89")).ok());
  ASSERT_TRUE(writer_.put_part(made, *upload, 1, bytes("0123")).ok());
  EXPECT_EQ(read("f"), "") << "seen before it is whole";
  ASSERT_TRUE(writer_.complete_upload(made, *upload, *writer_.list_parts(made, *upload)).ok());
  EXPECT_EQ(read("f"), "0123456789");
  EXPECT_EQ(names(), 1u);
}

TEST_F(FileWriterTest, RemovalTakesEmptyFoldersAndStaysInside) {
  testing::TempDir outside;
  std::ofstream(outside.path() + "/precious") << "x";
  fs::create_symlink(outside.path(), dir_.path() + "/link");
  ASSERT_TRUE(writer_.put(object("a/b/c", 1), bytes("x")).ok());
  ASSERT_TRUE(writer_.put(object("a/d", 1), bytes("x")).ok());
  EXPECT_TRUE(writer_.remove({"a/b/c", "not/there"}).empty());
  EXPECT_FALSE(fs::exists(dir_.path() + "/a/b"));
  EXPECT_TRUE(fs::exists(dir_.path() + "/a/d"));
  EXPECT_EQ(writer_.remove({"link/precious"}).size(), 1u);
  EXPECT_FALSE(writer_.put(object("link/new", 1), bytes("x")).ok());
  EXPECT_TRUE(fs::exists(outside.path() + "/precious"));
  for (const char* bad : {"", "/a", "a/", "a//b", "../a", "a/./b", ".larder-sync-x"})
    EXPECT_FALSE(writer_.check_key(bad).ok()) << bad;
}

}  // namespace
}  // namespace larder
