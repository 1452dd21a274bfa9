#include "cached/cli/mount_spec.h"

#include <gtest/gtest.h>

namespace larder::cli {
namespace {

TEST(ParseMount, SplitsWhereThePathBegins) {
  struct Case {
    const char *text, *source, *path;
  } cases[] = {
      {"s3://b/p=/data/x", "s3://b/p", "/data/x"},
      {"s3://b/date=2026/part=3=/data/x", "s3://b/date=2026/part=3", "/data/x"},
      {"s3://b/p=/data/a=b", "s3://b/p", "/data/a=b"},
      {"file:///dir=/data/x", "file:///dir", "/data/x"},
      {"imagenet=/data/imagenet", "imagenet", "/data/imagenet"},
      {"imagenet=/data/a=/b", "imagenet", "/data/a=/b"},
      {"s3://b=/data//x/./z/", "s3://b", "/data/x/z"},
  };
  for (const Case& c : cases) {
    auto spec = parse_mount(c.text);
    ASSERT_TRUE(spec.ok()) << spec.error().message;
    EXPECT_EQ(spec->source, c.source);
    EXPECT_EQ(spec->path, c.path);
  }
}

TEST(ParseMount, SaysWhatIsWrong) {
  const std::pair<const char*, const char*> kCases[] = {
      {"s3://bucket/prefix", "has no '='"},
      {"s3://bucket=data/x", "has no '='"},
      {"imagenet", "has no '='"},
      {"=/data/x", "has no source"},
      {"imagenet=data/x", "\"data/x\" is not absolute"},
      {"imagenet=/", "is the root"},
      {"imagenet=/data/../x", "has \"..\""},
      {"/dir=/data/x", "write file:///dir"},
      {"a b=/data/x", "neither a URL nor a dataset"},
      {"s3://b/x=/y=/data", "larder format"},
  };
  for (const auto& [text, part] : kCases) {
    auto spec = parse_mount(text);
    ASSERT_FALSE(spec.ok()) << text;
    EXPECT_NE(spec.error().message.find(part), std::string::npos) << text << ": " << spec.error().message;
  }
}

TEST(ParseOptions, SplitsAtTheFirstEquals) {
  auto options = parse_options({"endpoint=http://h:1/?a=b", "region=", "retries=3"});
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(*options,
            (std::map<std::string, std::string>{{"endpoint", "http://h:1/?a=b"}, {"region", ""}, {"retries", "3"}}));
  EXPECT_FALSE(parse_options({"endpoint"}).ok());
  EXPECT_FALSE(parse_options({"=x"}).ok());
}

TEST(ParseOptions, KeepsSecretsOffTheCommandLine) {
  for (const char* text : {"secret_key=hunter2", "session_token=hunter2", "access_key=hunter2"}) {
    auto options = parse_options({text});
    ASSERT_FALSE(options.ok()) << text;
    EXPECT_EQ(options.error().message.find("hunter2"), std::string::npos) << "the message shows the secret";
    EXPECT_NE(options.error().message.find("environment"), std::string::npos);
  }
}

TEST(ValidName, FollowsTheMetadataRule) {
  for (const char* ok : {"a", "imagenet-1k", "A.b_c", "0x"})
    EXPECT_TRUE(valid_name(ok)) << ok;
  for (const char* bad : {"", ".a", "-a", "a/b", "a b", "a=b", "ä"})
    EXPECT_FALSE(valid_name(bad)) << bad;
  EXPECT_TRUE(valid_name(std::string(63, 'a')));
  EXPECT_FALSE(valid_name(std::string(64, 'a')));
}

}  // namespace
}  // namespace larder::cli
