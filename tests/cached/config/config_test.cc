#include "cached/config/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/cached/store/http/live_server.h"

namespace larder {
namespace {

using ::testing::HasSubstr;
using testing::TempDir;

std::string error_of(const std::string& toml) {
  Config config;
  Status s = apply_toml(toml, "larder.toml", config);
  return s ? "" : s.error().message;
}

TEST(Config, EveryKeyIsRead) {
  Config c;
  Status s = apply_toml(R"(
socket = "/run/x.sock"
cache_dir = "/dev/shm/x"
cache_size = "8GiB"
reserve = "10%"
staging = "2%"
state_dir = "/var/x"
meta = "local:///m"
wait_ms = 5
linger_s = 7
connections = 9
private = true
log_level = "debug"
log_file = "/l"
admin_group = "ml"
fill = "siblings"
policy = "sieve"
[store]
region = "eu"
retries = 3
[stores."s3://bucket"]
endpoint = "http://e"
[[mount]]
path = "/data//x/"
source = "s3://bucket/p"
fallback = "error"
fill = "off"
policy = "keep"
quota = "10%"
[[mount]]
path = "/data/y"
dataset = "y"
)",
                        "f", c);
  ASSERT_TRUE(s.ok()) << s.error().message;
  EXPECT_EQ(c.cache_size->bytes, 8ull << 30);
  EXPECT_EQ(c.reserve->of(1000), 100u);
  EXPECT_EQ(c.wait_ms, 5u);
  EXPECT_EQ(c.connections, 9u);
  EXPECT_TRUE(c.is_private);
  EXPECT_EQ(c.fill, Fill::kSiblings);
  ASSERT_EQ(c.mounts.size(), 2u);
  EXPECT_EQ(c.mounts[0].path, "/data/x");
  EXPECT_EQ(c.mounts[0].fallback, Fallback::kError);
  EXPECT_EQ(*c.mounts[0].fill, Fill::kOff);
  EXPECT_EQ(c.policy, Policy::kSieve);
  EXPECT_EQ(*c.mounts[0].policy, Policy::kKeep);
  EXPECT_EQ(c.mounts[0].quota->of(1000), 100u);
  EXPECT_FALSE(c.mounts[1].policy || c.mounts[1].quota);
  EXPECT_EQ(options_for(c, "s3://bucket/p", {{"region", "us"}}),
            (StoreOptions{{"region", "us"}, {"retries", "3"}, {"endpoint", "http://e"}}));
  EXPECT_EQ(options_for(c, "s3://bucket2/p", {}), (StoreOptions{{"region", "eu"}, {"retries", "3"}}));
}

// Bad input is a one-line error that names the value and the remedy.
TEST(Config, BadInputIsNamedInOneLine) {
  const std::pair<const char*, const char*> cases[] = {
      {"cash_size = \"1G\"", "cash_size"},
      {"cache_size = \"1X\"", "1X"},
      {"cache_size = -5", "-5"},
      {"cache_size = [1]", "cache_size"},
      {"wait_ms = \"no\"", "no"},
      {"wait_ms = 0", "0"},
      {"private = 1", "private"},
      {"fill = \"always\"", "always"},
      {"policy = \"lru\"", "lru"},
      {"[[mount]]\npath = \"/a\"\nsource = \"s3://b\"\nquota = \"all\"", "all"},
      {"socket = 5", "socket"},
      {"[[mount]]\npath = \"data\"\nsource = \"s3://b\"", "\"data\""},
      {"[[mount]]\npath = \"/\"\nsource = \"s3://b\"", "root"},
      {"[[mount]]\npath = \"/a/../b\"\nsource = \"s3://b\"", ".."},
      {"[[mount]]\npath = \"/a\"", "source or dataset"},
      {"[[mount]]\npath = \"/a\"\nsource=\"s3://b\"\nspeed = 1", "mount.speed"},
      {"[[mount]]\npath = \"/a\"\nsource=\"s3://b\"\n[[mount]]\npath = \"/a/\"\nsource=\"s3://c\"", "twice"},
      {"mount = 5", "[[mount]]"},
      {"[store]\nx = [1]", "store.x"},
      {"this is not toml", "larder.toml:1: not valid TOML"},
      {"fill = \"off\"\nsocket = ", "larder.toml:2"},
      {"[[\n", "larder.toml:1"},
  };
  for (auto [toml, names] : cases) {
    std::string error = error_of(toml);
    EXPECT_THAT(error, HasSubstr(names)) << toml;
    EXPECT_EQ(error.find('\n'), error.npos) << error;
  }
}

// A misspelled store option would leave the default in force without a word.
TEST(Config, OptionsOfStoresAreKnownOrAnError) {
  EXPECT_THAT(error_of("[store]\nendpont = \"http://e\""), HasSubstr("store: unknown store option 'endpont'"));
  EXPECT_THAT(error_of("[stores.\"s3://b\"]\nregoin = \"eu\""), HasSubstr("unknown store option 'regoin'"));
  EXPECT_THAT(error_of("[stores.\"s3:/b\"]\nregion = \"eu\""), HasSubstr("stores.\"s3:/b\": no source begins so"));
  EXPECT_THAT(error_of("[stores.\"s4://b\"]\nregion = \"eu\""), HasSubstr("no source begins so"));
  EXPECT_EQ(error_of("[stores.\"s3://\"]\nregion = \"eu\""), "");
}

TEST(Config, TheAdminGroupExists) {
  TempDir t;
  const std::string file = t.path() + "/larder.toml";
  const auto load = [&](const std::string& group) {
    std::ofstream(file) << "admin_group = \"" << group << "\"\n";
    ConfigFlags flags;
    flags.config_file = file;
    const Result<Config> config = load_config(flags);
    return config ? "" : config.error().message;
  };
  EXPECT_EQ(load("root"), "");
  EXPECT_THAT(load("nogrouplikethis"), HasSubstr("admin_group: there is no group \"nogrouplikethis\""));
}

// The parser looks before the file's first byte for where it is not UTF-8.
TEST(Config, AFileThatIsNotUtf8IsRefused) {
  EXPECT_THAT(error_of("'[\xee\xbb\xb7q\xeetor'[\xee\xbb\xb7q\xeetor"), HasSubstr("UTF-8"));
  EXPECT_THAT(error_of("log_file = \"/\xff\""), HasSubstr("UTF-8"));
  EXPECT_THAT(error_of("log_file = \"/\xc3\xbc\""), ::testing::IsEmpty());
}

// The parser follows nesting by recursion: what nests deeper than any configuration is refused before.
TEST(Config, DeepNestingIsAnError) {
  const std::string deep(100'000, '[');
  EXPECT_THAT(error_of("x = " + deep), HasSubstr("levels"));
  EXPECT_THAT(error_of("x = [']', \"]\", \"\\\"]\", " + deep), HasSubstr("levels"));
  std::string keys = "a";
  for (int i = 0; i < 100'000; ++i)
    keys += ".a";
  EXPECT_THAT(error_of(keys + " = 1"), HasSubstr("levels"));
  EXPECT_THAT(error_of("log_file = \"" + deep + "\" # " + deep), ::testing::IsEmpty());
  EXPECT_THAT(error_of("[[mount]]\npath = \"/a\"\nsource = \"s3://b/" + keys + "\""), ::testing::IsEmpty());
}

TEST(Config, Sizes) {
  EXPECT_EQ(parse_size("1000")->bytes, 1000u);
  EXPECT_EQ(parse_size("1.5 GiB")->bytes, 3ull << 29);
  EXPECT_EQ(parse_size("2kb")->bytes, 2000u);
  EXPECT_EQ(parse_size("50%")->of(200), 100u);
  for (auto text : {"", "x", "5x", "-1", "0", "101%", "1..5", "1e3", "nan", "99999999999T", "GiB", "."})
    EXPECT_FALSE(parse_size(text).ok()) << text;
}

Capacity room(uint64_t total, uint64_t free, uint64_t used) {
  return {"the file system of /dev/shm/x", total, free, UINT64_MAX, "", used};
}

TEST(Config, CacheSizeIsBoundedByTheControlGroup) {
  Config c;
  Capacity there = room(8000ull << 20, 8000ull << 20, 0);
  there.limit = 400ull << 20;
  there.limited_by = "/sys/fs/cgroup/x/memory.max";
  EXPECT_EQ(plan_limits(c, there)->cache_size, 200ull << 20);
  c.cache_size = SizeSpec{500ull << 20, 0};
  EXPECT_THAT(plan_limits(c, there).error().message,
              AllOf(HasSubstr("memory of larderd's control group"), HasSubstr("/sys/fs/cgroup/x/memory.max")));
  c.cache_size = SizeSpec{0, 50};
  EXPECT_EQ(plan_limits(c, there)->cache_size, 200ull << 20);
}

TEST(Config, TheHomeOfTheCache) {
  Config c;
  ASSERT_TRUE(apply_toml("cache_home = \"own\"", "f", c));
  EXPECT_EQ(c.cache_home, HomeChoice::kOwn);
  EXPECT_THAT(apply_toml("cache_home = \"mine\"", "f", c).error().message, HasSubstr("use auto, own or folder"));
  ConfigFlags flags;
  flags.is_private = true;
  Result<Config> by_default = load_config(flags);
  ASSERT_TRUE(by_default.ok());
  EXPECT_EQ(by_default->cache_home, HomeChoice::kAuto);
  EXPECT_FALSE(by_default->cache_dir_is_named);
  flags.cache_dir = "/dev/shm/mine";
  EXPECT_TRUE(load_config(flags)->cache_dir_is_named);
}

TEST(Config, CacheSizeIsCheckedAgainstTheFileSystem) {
  Config c;
  c.cache_dir = "/dev/shm/x";
  EXPECT_EQ(plan_limits(c, room(1000ull << 20, 100ull << 20, 0))->cache_size / 1000, (80ull << 20) / 1000);
  EXPECT_EQ(plan_limits(c, room(1000ull << 20, 900ull << 20, 0))->cache_size, 500ull << 20);
  // A restart finds its own files: they count as free.
  EXPECT_EQ(plan_limits(c, room(1000ull << 20, 500ull << 20, 400ull << 20))->cache_size, 500ull << 20);
  c.cache_size = SizeSpec{2000ull << 20, 0};
  EXPECT_THAT(plan_limits(c, room(1000ull << 20, 900ull << 20, 0)).error().message,
              HasSubstr("2.0 GiB is larger than the file system"));
  c.cache_size = SizeSpec{10, 0};
  EXPECT_FALSE(plan_limits(c, room(1000ull << 20, 900ull << 20, 0)).ok());
}

TEST(Config, FlagsWinAndNamesAreChecked) {
  ConfigFlags flags;
  flags.is_private = true;
  flags.cache_dir = "/dev/shm/mine";
  flags.cache_size = "64M";
  Result<Config> c = load_config(flags);
  ASSERT_TRUE(c.ok());
  EXPECT_EQ(c->cache_dir, "/dev/shm/mine");
  EXPECT_EQ(c->linger_s, 600u);
  flags.cache_size = "lots";
  EXPECT_THAT(load_config(flags).error().message, HasSubstr("lots"));
  flags.cache_size.reset();
  flags.config_file = "/nonexistent.toml";
  EXPECT_THAT(load_config(flags).error().message, HasSubstr("/nonexistent.toml"));
  flags.config_file.reset();
  flags.socket = "/" + std::string(120, 's');
  EXPECT_THAT(load_config(flags).error().message, HasSubstr("107"));
}

}  // namespace
}  // namespace larder
