// A daemon answers for the store that its asker means, or not at all.
#include "cached/store/open/source_meaning.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <fstream>

#include "cached/store/s3/s3.h"
#include "tests/cached/fakes.h"

namespace larder {
namespace {

using test::Inside;
using test::Outside;
using ::testing::HasSubstr;
using Variables = std::map<std::string, std::string>;

// A daemon that was started in an environment with these variables, and nothing else that counts.
class SourceMeaningTest : public ::testing::Test {
 protected:
  SourceMeaningTest() {
    out.bucket->put("f", "STAGING");
    out.config.is_private = true;
    std::ofstream(out.folder / "config") << "[profile b]\nendpoint_url = http://b:1\n[profile same]\nregion = r\n";
    daemons = {{"AWS_ENDPOINT_URL", "http://a:1"},
               {"AWS_REGION", "r"},
               {"AWS_ACCESS_KEY_ID", "k"},
               {"AWS_CONFIG_FILE", out.folder / "config"}};
    for (size_t i = 0; i < kMeaningVariableCount; ++i) {
      const char* name = kMeaningVariables[i];
      if (const char* value = getenv(name)) before[name] = value;
      unsetenv(name);
      if (daemons.contains(name)) setenv(name, daemons[name].c_str(), 1);
    }
  }
  ~SourceMeaningTest() override {
    for (size_t i = 0; i < kMeaningVariableCount; ++i)
      unsetenv(kMeaningVariables[i]);
    for (auto& [name, value] : before)
      setenv(name.c_str(), value.c_str(), 1);
  }
  // 0, or the errno that a run in the daemon's environment but for `other` gets. An empty value: not set.
  int run(Inside& in, const Variables& other, const StoreOptions& options = {}, const std::string& path = "/data/x") {
    MountRequest r;
    r.path = path;
    r.source = "s3://bucket/d";
    r.refresh = true;
    r.options = options;
    r.environment = daemons;
    for (auto& [name, value] : other)
      r.environment[name] = value;
    Result<MountResult> m = in.datasets.mount(r, {});
    if (!m) said = m.error().message;
    return m ? 0 : m.error().code;
  }

  Outside out;
  Variables daemons, before;
  std::string said;
};

TEST_F(SourceMeaningTest, ARunWithAnotherEnvironmentIsRefused) {
  Inside in(out);
  ASSERT_EQ(run(in, {}), 0) << said;
  const std::vector<Variables> others = {{{"AWS_ENDPOINT_URL", "http://b:1"}},
                                         {{"AWS_ENDPOINT_URL_S3", "http://b:1"}},
                                         {{"AWS_ENDPOINT_URL", "https://a:1"}},
                                         {{"AWS_ENDPOINT_URL", ""}},
                                         {{"AWS_ENDPOINT_URL", ""}, {"AWS_PROFILE", "b"}},
                                         {{"AWS_REGION", "other"}},
                                         {{"AWS_ACCESS_KEY_ID", "other"}}};
  for (const Variables& other : others)
    for (const char* path : {"/data/x", "/data/y"})
      EXPECT_EQ(run(in, other, {}, path), EBUSY) << other.begin()->first << "=" << other.begin()->second;
  EXPECT_EQ(run(in, {{"AWS_ENDPOINT_URL", "http://b:1"}}), EBUSY);
  EXPECT_THAT(said, HasSubstr("http://b:1, here http://a:1"));
  EXPECT_THAT(said, HasSubstr("larder shutdown"));
  EXPECT_EQ(out.bucket->lists, 1u) << "nobody else's listing is asked for";
}

TEST_F(SourceMeaningTest, TheSameStoreSpelledInAnotherWayIsServed) {
  Inside in(out);
  ASSERT_EQ(run(in, {}), 0) << said;
  for (const Variables& same : {Variables{{"AWS_ENDPOINT_URL", "http://A:1/"}}, Variables{{"AWS_PROFILE", "same"}},
                                Variables{{"AWS_DEFAULT_REGION", "unused"}}})
    EXPECT_EQ(run(in, same), 0) << said;
  EXPECT_EQ(run(in, {{"AWS_ENDPOINT_URL", "http://b:1"}}, {{"endpoint", "http://a:1/"}}), 0) << "the option counts";
}

TEST_F(SourceMeaningTest, OptionsThatMeanAnotherStoreAreRefusedOrAnotherDataset) {
  Inside in(out);
  ASSERT_EQ(run(in, {}), 0) << said;
  for (const StoreOptions& other : {StoreOptions{{"region", "other"}}, StoreOptions{{"addressing", "virtual"}},
                                    StoreOptions{{"access_key", "other"}, {"secret_key", "s"}}})
    EXPECT_EQ(run(in, {}, other), EBUSY) << other.begin()->first;
  EXPECT_EQ(run(in, {}, {{"endpoint", "http://b:1"}}), EEXIST) << "the path is taken";
  EXPECT_EQ(run(in, {}, {{"endpoint", "http://b:1"}}, "/data/y"), 0) << said;
  EXPECT_NE(in.datasets.at_path("/data/x").first.dataset, in.datasets.at_path("/data/y").first.dataset);
}

TEST_F(SourceMeaningTest, ANodesDaemonHasAConfigurationOfItsOwn) {
  out.config.is_private = false;
  Inside in(out);
  ASSERT_EQ(run(in, {}), 0) << said;
  EXPECT_EQ(run(in, {{"AWS_ENDPOINT_URL", ""}, {"AWS_REGION", "other"}, {"AWS_ACCESS_KEY_ID", "mine"}}), 0) << said;
  EXPECT_EQ(run(in, {{"AWS_ENDPOINT_URL", "http://b:1"}}), EBUSY);
}

TEST_F(SourceMeaningTest, AnotherEndpointIsAnotherDatasetAlsoAfterTheDaemonHasGone) {
  std::string first;
  {
    Inside in(out);
    ASSERT_EQ(run(in, {}), 0) << said;
    first = in.datasets.mounts()[0].dataset->def.name;
    ASSERT_TRUE(in.datasets.umount("/data/x").ok());
  }
  daemons["AWS_ENDPOINT_URL"] = "http://b:1";
  setenv("AWS_ENDPOINT_URL", "http://b:1", 1);
  Inside in(out);
  ASSERT_EQ(run(in, {}), 0) << said;
  EXPECT_NE(in.datasets.mounts()[0].dataset->def.name, first);
}

TEST(AccountOfKey, IsTheNumberInAmazonsKeysAndElseTheKey) {
  EXPECT_EQ(account_of_key("ASIAQNZGKIQY56JQ7WML", true), "029608264753");
  EXPECT_EQ(account_of_key("minio", false), "minio");
  EXPECT_EQ(account_of_key("changes-hourly", true), "");
}

}  // namespace
}  // namespace larder
