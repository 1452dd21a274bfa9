// What a user types: understood, or refused with the value and the remedy.
#include <gtest/gtest.h>

#include "cached/store/api/options.h"
#include "cached/store/api/store.h"
#include "cached/store/s3/s3.h"
#include "cached/store/s3/s3_replies.h"

namespace larder {
namespace {

TEST(SourceUrl, PartsAndText) {
  struct Case {
    const char *text, *scheme, *bucket, *prefix, *canonical;
  };
  for (auto& c : {Case{"s3://bucket", "s3", "bucket", "", "s3://bucket/"},
                  Case{"s3://bucket/", "s3", "bucket", "", "s3://bucket/"},
                  Case{"s3://bucket/a/b", "s3", "bucket", "a/b/", "s3://bucket/a/b/"},
                  Case{"s3://bucket/a b%20+?#/", "s3", "bucket", "a b%20+?#/", "s3://bucket/a b%20+?#/"},
                  Case{"s3://bucket//a//", "s3", "bucket", "/a//", "s3://bucket//a//"},
                  Case{"s3://My.Old_bucket/x", "s3", "My.Old_bucket", "x/", "s3://My.Old_bucket/x/"},
                  Case{"bos://ds-bkt/a b/%", "bos", "ds-bkt", "a b/%/", "bos://ds-bkt/a b/%/"},
                  Case{"http://127.0.0.1:81/a%20b", "http", "127.0.0.1:81", "a%20b/", "http://127.0.0.1:81/a%20b/"},
                  Case{"https://host:443", "https", "host", "", "https://host/"},
                  Case{"file:///data/set/", "file", "", "/data/set", "file:///data/set"},
                  Case{"file:////data//./set", "file", "", "/data/set", "file:///data/set"},
                  Case{"file:///", "file", "", "/", "file:///"}}) {
    auto url = parse_source(c.text);
    ASSERT_TRUE(url.ok()) << c.text << ": " << url.error().message;
    EXPECT_EQ(url->scheme, c.scheme);
    EXPECT_EQ(url->bucket, c.bucket);
    EXPECT_EQ(url->prefix, c.prefix);
    EXPECT_EQ(url->text(), c.canonical);
    EXPECT_EQ(parse_source(url->text())->text(), c.canonical);
  }
}

TEST(SourceUrl, MalformedOnesNameTheValue) {
  for (const char* text : {"",
                           "bucket",
                           "/data",
                           "s3:/bucket",
                           "s3://",
                           "s3:///key",
                           "s3://ab",
                           "s3://bad bucket/x",
                           "s3://b\nb/x",
                           "file://host/dir",
                           "file://relative",
                           "file:///a/../b",
                           "bos://Capital/x",
                           "bos://a.b.c",
                           "bos://-abc",
                           "bos://ab",
                           "http://",
                           "https:///x",
                           "http://u:p@h/x",
                           "http://h/a b",
                           "http://h/x?y",
                           "http://h/x#y",
                           "ftp://bucket/x",
                           "://x"}) {
    auto url = parse_source(text);
    ASSERT_FALSE(url.ok()) << text;
    EXPECT_EQ(url.error().code, EINVAL);
    EXPECT_EQ(url.error().message.find('\n'), std::string::npos);
  }
  EXPECT_EQ(parse_source("ftp://bucket/x").error().message,
            "source 'ftp://bucket/x': unknown scheme 'ftp'; known are s3, bos, http, https and file");
}

TEST(StoreOptions, UnknownAndMalformedOnesAreNamed) {
  auto unknown = open_store("s3://bucket", {{"endpiont", "x"}});
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.error().code, EINVAL);
  EXPECT_TRUE(unknown.error().message.starts_with("unknown store option 'endpiont'; known are endpoint,"))
      << unknown.error().message;
  const StoreOptions keys = {{"access_key", "a"}, {"secret_key", "s"}};
  for (auto [name, value] : {std::pair<const char*, const char*>{"max_connections", "many"},
                             {"max_connections", "0"},
                             {"max_connections", "12x"},
                             {"retries", "-1"},
                             {"anonymous", "yes"},
                             {"addressing", "both"},
                             {"verify", "sometimes"},
                             {"region", "eu west"},
                             {"endpoint", "127.0.0.1:9000"},
                             {"endpoint", "http://"},
                             {"endpoint", "http://host:port"},
                             {"endpoint", "http://host:99999"},
                             {"endpoint", "http://user@host"},
                             {"endpoint", "http://host/path"},
                             {"stall_timeout_ms", "1"}}) {
    StoreOptions options = keys;
    options[name] = value;
    auto store = open_store("s3://bucket", options);
    ASSERT_FALSE(store.ok()) << name << "=" << value;
    EXPECT_EQ(store.error().code, EINVAL) << name;
    EXPECT_NE(store.error().message.find(name), std::string::npos) << store.error().message;
    EXPECT_NE(store.error().message.find(value), std::string::npos) << store.error().message;
  }
}

TEST(S3Address, EndpointsAndStyles) {
  struct Case {
    const char *endpoint, *bucket, *addressing;
    bool path;
  };
  for (auto& c :
       {Case{"https://s3.eu-west-1.amazonaws.com", "bucket", "auto", false},
        Case{"https://s3.eu-west-1.amazonaws.com", "dotted.bucket", "auto", true},
        Case{"http://s3.eu-west-1.amazonaws.com", "dotted.bucket", "auto", false},
        Case{"https://s3.cn-north-1.amazonaws.com.cn:8443", "bucket", "auto", false},
        Case{"http://127.0.0.1:9000", "bucket", "auto", true}, Case{"http://[::1]:9000", "bucket", "auto", true},
        Case{"http://localhost:9000", "bucket", "auto", true},
        Case{"https://minio.example.org", "bucket", "auto", true},
        Case{"https://s3.oss-cn-beijing.aliyuncs.com", "bucket", "virtual", false},
        Case{"https://s3.eu-west-1.amazonaws.com", "bucket", "path", true}}) {
    auto address = parse_endpoint(c.endpoint);
    ASSERT_TRUE(address.ok()) << address.error().message;
    EXPECT_EQ(wants_path_style(c.addressing, *address, c.bucket), c.path) << c.endpoint;
  }
  EXPECT_EQ(parse_endpoint("https://host:443")->host, "host");
  EXPECT_EQ(parse_endpoint("http://host:80/")->host, "host");
  EXPECT_EQ(parse_endpoint("http://host:443")->host, "host:443");
  EXPECT_EQ(parse_endpoint("http://[::1]")->host, "[::1]");
}

TEST(S3Xml, ListPages) {
  auto page = parse_list_v2(R"(<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
    <EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextContinuationToken>a/b+c==</NextContinuationToken>
    <Contents><Key>a+b%2Bc%2F%E6%B5%8B%00</Key><LastModified>2009-10-12T17:50:30.123Z</LastModified>
      <ETag>&quot;fba9dede5f27731c9771645a39863328&quot;</ETag><Size>434234</Size></Contents></ListBucketResult>)");
  ASSERT_TRUE(page.ok()) << page.error().message;
  EXPECT_EQ(page->next, "a/b+c==");
  ASSERT_EQ(page->objects.size(), 1u);
  EXPECT_EQ(page->objects[0].key, std::string("a b+c/测\0", 10));
  EXPECT_EQ(page->objects[0].etag, "fba9dede5f27731c9771645a39863328");
  EXPECT_EQ(page->objects[0].size, 434234u);
  EXPECT_EQ(page->objects[0].mtime_ns, 1255369830123000000);
  auto plain =
      parse_list_v2("<ListBucketResult><Contents><Key> a+b%20 </Key><Size>1</Size></Contents></ListBucketResult>");
  ASSERT_TRUE(plain.ok());
  EXPECT_EQ(plain->objects[0].key, " a+b%20 ") << "not encoded: taken as it is";
  EXPECT_EQ(plain->next, "");
}

TEST(S3Xml, ListPagesOfVersion1) {
  auto page = parse_list_v1(
      "<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>a b+c</Key><Size>1</Size></Contents>"
      "<Contents><Key>b</Key><Size>2</Size></Contents></ListBucketResult>");
  ASSERT_TRUE(page.ok()) << page.error().message;
  EXPECT_EQ(page->next, "b") << "without a delimiter there is no NextMarker";
  auto marked = parse_list_v1(
      "<ListBucketResult><IsTruncated>true</IsTruncated><EncodingType>url</EncodingType><NextMarker>x%2By+z</"
      "NextMarker>"
      "<Contents><Key>b</Key><Size>2</Size></Contents></ListBucketResult>");
  ASSERT_TRUE(marked.ok());
  EXPECT_EQ(marked->next, "x+y z");
  auto split = parse_list_v1(
      "<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>b</Key><Size>2</Size></Contents>"
      "<CommonPrefixes><Prefix>c/</Prefix></CommonPrefixes></ListBucketResult>");
  ASSERT_TRUE(split.ok());
  EXPECT_EQ(split->next, "c/");
  EXPECT_FALSE(parse_list_v1("<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>").ok());
}

TEST(S3Xml, HostilePagesAreErrors) {
  for (const char* text :
       {"", "<", "not xml", "<html/>", "<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>k</Key></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>k</Key><Size>-1</Size></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>k</Key><Size>99999999999999999999</Size></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>k</Key><Size>1 2</Size></Contents></ListBucketResult>",
        "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"}) {
    auto page = parse_list_v2(text);
    ASSERT_FALSE(page.ok()) << text;
    EXPECT_EQ(page.error().code, EIO);
  }
  auto etag = parse_list_v2(
      "<ListBucketResult><Contents><Key>k</Key><Size>1</Size><ETag>x&#13;&#10;Evil: "
      "1\"y</ETag></Contents></ListBucketResult>");
  ASSERT_TRUE(etag.ok());
  EXPECT_EQ(etag->objects[0].etag, "xEvil: 1y") << "an etag cannot begin a header of its own";
}

TEST(S3Xml, Errors) {
  auto error = parse_s3_error(
      "<Error><Code>NoSuchKey</Code><Message>gone\n\x1b[31m</Message><RequestId>R</RequestId><Region>eu-west-1</"
      "Region></Error>");
  EXPECT_EQ(error.code, "NoSuchKey");
  EXPECT_EQ(error.region, "eu-west-1");
  EXPECT_EQ(parse_s3_error("<html>").code, "");
  EXPECT_EQ(describe("s3://b/k", 404, {"NoSuchKey", "gone\n\x1b[31m", "R", ""}),
            "s3://b/k: HTTP 404 NoSuchKey: gone\\x0a\\x1b[31m (request id R)");
}

TEST(Errors, ErrnoOfReplies) {
  EXPECT_EQ(errno_of(404, "NoSuchKey"), ENOENT);
  EXPECT_EQ(errno_of(403, "AccessDenied"), EACCES);
  EXPECT_EQ(errno_of(401, ""), EACCES);
  EXPECT_EQ(errno_of(400, "InvalidAccessKeyId"), EACCES);
  EXPECT_EQ(errno_of(412, ""), ESTALE);
  EXPECT_EQ(errno_of(416, ""), ESTALE);
  EXPECT_EQ(errno_of(403, "InvalidObjectState"), EIO) << "archived: no matter of permission";
  EXPECT_EQ(errno_of(500, ""), EIO);
  for (int status : {500, 502, 503, 504, 429, 408})
    EXPECT_TRUE(worth_retrying(status, ""));
  for (int status : {400, 403, 404, 405, 412, 416})
    EXPECT_FALSE(worth_retrying(status, ""));
  EXPECT_TRUE(worth_retrying(400, "RequestTimeout"));
}

}  // namespace
}  // namespace larder
