// A metadata URL that is misread leads to another namespace; a password that a message repeats is public.
#include "cached/meta/redis/redis_url.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "cached/meta/open/open_meta.h"
#include "tests/cached/store/http/live_server.h"

namespace larder {
namespace {

class RedisUrlTest : public ::testing::Test {
 protected:
  void SetUp() override { clear(); }
  void TearDown() override { clear(); }
  static void clear() {
    unsetenv("REDIS_PASSWORD");
    unsetenv("SENTINEL_PASSWORD");
  }
  static RedisUrl parse(const std::string& text) {
    auto url = parse_redis_url(text);
    EXPECT_TRUE(url.ok()) << text << ": " << url.error().message;
    return url.ok() ? *url : RedisUrl{};
  }
  static std::vector<std::string> hosts(const RedisUrl& url) {
    std::vector<std::string> out;
    for (auto& e : url.endpoints)
      out.push_back(e.text());
    return out;
  }
  using Hosts = std::vector<std::string>;
};

TEST_F(RedisUrlTest, FormsThatJuiceFsUsersWrite) {
  auto url = parse("redis://host:6380/3");
  EXPECT_EQ(hosts(url), Hosts{"host:6380"});
  EXPECT_EQ(url.db, 3);
  EXPECT_FALSE(url.tls.on);
  EXPECT_TRUE(url.master.empty());
  EXPECT_EQ(hosts(parse("redis://host")), Hosts{"host:6379"});
  EXPECT_EQ(hosts(parse("redis://[::1]:7000/1")), Hosts{"[::1]:7000"});
  EXPECT_TRUE(parse("rediss://host/0").tls.on);
  url = parse("redis://user:p%40s:s@h:1/0");
  EXPECT_EQ(url.user, "user");
  EXPECT_EQ(url.password, "p@s:s");
  url = parse("redis://:pw@h:1");
  EXPECT_EQ(url.user, "");
  EXPECT_EQ(url.password, "pw");
  url = parse("redis://:a/b@c@h:1/2");  // as typed by hand
  EXPECT_EQ(url.password, "a/b@c");
  EXPECT_EQ(url.db, 2);
  url = parse("unix:///run/redis.sock?db=4");
  EXPECT_EQ(hosts(url), Hosts{"/run/redis.sock"});
  EXPECT_EQ(url.db, 4);
  EXPECT_EQ(parse("unix://:pw@/run/redis.sock").password, "pw");
}

TEST_F(RedisUrlTest, SentinelsAndClusters) {
  auto url = parse("redis://pw@mymaster,10.0.0.1,10.0.0.2:26380/2");
  EXPECT_EQ(url.master, "mymaster");
  EXPECT_EQ(hosts(url), (Hosts{"10.0.0.1:26380", "10.0.0.2:26380"}));
  EXPECT_EQ(url.password, "pw");
  EXPECT_EQ(url.db, 2);
  EXPECT_EQ(hosts(parse("redis://m,a,b/2")), (Hosts{"a:26379", "b:26379"}));
  EXPECT_EQ(hosts(parse("redis://m,a:1,b:2")), (Hosts{"a:1", "b:2"}));
  url = parse("redis://h1:7000,h2:7001/1");
  EXPECT_TRUE(url.master.empty());
  EXPECT_EQ(hosts(url), (Hosts{"h1:7000", "h2:7001"}));
}

TEST_F(RedisUrlTest, PasswordsFromElsewhere) {
  setenv("REDIS_PASSWORD", "env-pw", 1);
  setenv("SENTINEL_PASSWORD", "sent-pw", 1);
  EXPECT_EQ(parse("redis://h").password, "env-pw");
  EXPECT_EQ(parse("redis://m,s").sentinel_password, "sent-pw");
  EXPECT_EQ(parse("redis://:own@h").password, "own");
  auto url = parse("redis://alice@h");
  EXPECT_EQ(url.user, "alice");
  EXPECT_EQ(url.password, "env-pw");
  testing::TempDir dir;
  std::ofstream(dir.path() + "/pw") << "file-pw\nsecond line\n";
  EXPECT_EQ(parse("redis://h?password-file=" + dir.path() + "/pw").password, "file-pw");
  EXPECT_FALSE(parse_redis_url("redis://h?password-file=" + dir.path() + "/none").ok());
  std::ofstream(dir.path() + "/empty") << "";
  EXPECT_FALSE(parse_redis_url("redis://h?password-file=" + dir.path() + "/empty").ok());
}

TEST_F(RedisUrlTest, Options) {
  auto url = parse(
      "rediss://h/0?prefix=team-a&timeout=250&tls-ca-cert-file=/ca%20.pem&tls-cert-file=/c&tls-key-file=/"
      "k&tls-server-name=n&insecure-skip-verify=true");
  EXPECT_EQ(url.prefix, "team-a");
  EXPECT_EQ(url.timeout_ms, 250u);
  EXPECT_EQ(url.tls.ca_file, "/ca .pem");
  EXPECT_EQ(url.tls.cert_file, "/c");
  EXPECT_EQ(url.tls.key_file, "/k");
  EXPECT_EQ(url.tls.server_name, "n");
  EXPECT_FALSE(url.tls.verify);
}

TEST_F(RedisUrlTest, WhatIsWrongIsSaidAndNoPasswordIs) {
  for (const char* text :
       {"redis://:hushhush@", "redis://:hushhush@h:x/0", "redis://:hushhush@h:70000", "redis://:hushhush@h/zero",
        "redis://:hushhush@h:1/-1", "redis://:hushhush@/0", "redis://:hushhush@h?prefix=a{b}",
        "redis://:hushhush@h?unknown=1", "redis://:hushhush@h?timeout=0", "redis://:hushhush@h?tls-cert-file=x",
        "redis://:hush?hush@h", "redis://:hushhush@,a,b", "redis://:hushhush@h:1,,h:2", "unix://:hushhush@relative",
        "http://:hushhush@h", "redis:/:hushhush@h", "redis://hushhush:@h", "redis://:hushhush@[::1",
        "redis://:hushhush@h?prefix"}) {
    auto url = parse_redis_url(text);
    ASSERT_FALSE(url.ok()) << text;
    EXPECT_EQ(url.error().code, EINVAL);
    EXPECT_EQ(url.error().message.find("hush"), std::string::npos) << url.error().message;
    auto meta = open_meta(text, "");
    ASSERT_FALSE(meta.ok());
    EXPECT_EQ(meta.error().message.find("hush"), std::string::npos) << meta.error().message;
  }
  EXPECT_EQ(parse("rediss://u:hush@h:1/2?prefix=p").text(), "rediss://h:1/2?prefix=p");
}

}  // namespace
}  // namespace larder
