// A key that is asked for on the wrong node is found only by a redirection; a false redirection must not be followed
// blindly. Vectors: CLUSTER KEYSLOT of redis 7.0.15.
#include "cached/meta/redis/redis_cluster.h"

#include <gtest/gtest.h>

#include <random>

#include "cached/meta/redis/redis_directory.h"

namespace larder {
namespace {

using Type = RedisReply::Type;
const RedisEndpoint kFrom{"10.1.1.1", 7000};

TEST(RedisCluster, SlotsAreThoseOfRedis) {
  EXPECT_EQ(cluster_slot("123456789"), 12739);
  EXPECT_EQ(cluster_slot("foo"), 12182);
  EXPECT_EQ(cluster_slot("bar"), 5061);
  EXPECT_EQ(cluster_slot("foo{}{bar}"), 8363);
  EXPECT_EQ(cluster_slot("foo{bar}{zap}"), 5061);
  EXPECT_EQ(cluster_slot("foo{{bar}}zap"), 4015);
  EXPECT_EQ(cluster_slot("{bar"), 4015);
  EXPECT_EQ(cluster_slot("ds:{imagenet}:meta"), 1568);
  EXPECT_EQ(cluster_slot("ds:{imagenet}:seg:0"), 1568);
}

TEST(RedisCluster, RedirectionsAreReadStrictly) {
  auto moved = parse_redirection("MOVED 12182 127.0.0.1:17002", kFrom);
  ASSERT_TRUE(moved);
  EXPECT_FALSE(moved->ask);
  EXPECT_EQ(moved->slot, 12182);
  EXPECT_EQ(moved->to, (RedisEndpoint{"127.0.0.1", 17002}));
  auto ask = parse_redirection("ASK 1 ::1:7001", kFrom);
  ASSERT_TRUE(ask && ask->ask);
  EXPECT_EQ(ask->to, (RedisEndpoint{"::1", 7001}));
  EXPECT_EQ(parse_redirection("MOVED 1 :7001", kFrom)->to, (RedisEndpoint{"10.1.1.1", 7001}));
  for (const char* text : {"", "MOVED", "MOVED 1", "MOVED 16384 h:1", "MOVED -1 h:1", "MOVED 1 h", "MOVED 1 h:0",
                           "MOVED 1 h:65536", "MOVED x h:1", "ERR MOVED 1 h:1", "moved 1 h:1", "MOVED 1 h:1x"})
    EXPECT_FALSE(parse_redirection(text, kFrom)) << text;
}

RedisReply number(int64_t n) {
  RedisReply out;
  out.type = Type::kInteger;
  out.integer = n;
  return out;
}
RedisReply text(const std::string& t) {
  RedisReply out;
  out.type = Type::kText;
  out.text = t;
  return out;
}
RedisReply array(std::vector<RedisReply> items) {
  RedisReply out;
  out.type = Type::kArray;
  out.items = std::move(items);
  return out;
}

TEST(RedisCluster, TheMapOfSlots) {
  SlotMap map;
  EXPECT_FALSE(map.find(0));
  ASSERT_TRUE(map.update(array({array({number(0), number(8191), array({text("a"), number(1), text("id")})}),
                                array({number(8192), number(16383), array({text(""), number(2), text("id")}),
                                       array({text("replica"), number(9), text("id")})})}),
                         kFrom)
                  .ok());
  EXPECT_EQ(*map.find(0), (RedisEndpoint{"a", 1}));
  EXPECT_EQ(*map.find(8191), (RedisEndpoint{"a", 1}));
  EXPECT_EQ(*map.find(16383), (RedisEndpoint{"10.1.1.1", 2}));
  EXPECT_FALSE(map.find(16384));
  map.move(5, {"b", 3});
  EXPECT_EQ(*map.find(5), (RedisEndpoint{"b", 3}));
  EXPECT_EQ(*map.find(6), (RedisEndpoint{"a", 1}));
  const std::vector<RedisReply> lies = {text("OK"),
                                        array({}),
                                        array({number(1)}),
                                        array({array({number(0), number(16384), array({text("a"), number(1)})})}),
                                        array({array({number(5), number(4), array({text("a"), number(1)})})}),
                                        array({array({number(-1), number(4), array({text("a"), number(1)})})}),
                                        array({array({number(0), number(4), array({text("a"), number(0)})})}),
                                        array({array({number(0), number(4), text("a")})})};
  for (const RedisReply& lie : lies)
    EXPECT_FALSE(map.update(lie, kFrom).ok());
  EXPECT_EQ(*map.find(5), (RedisEndpoint{"b", 3})) << "a lie changes nothing";
}

TEST(RedisDirectory, ComesBackAndDamageIsNoticed) {
  const std::vector<SegmentRow> rows = {
      {{1, 2}, 600'000, 12'000, ""}, {{3, 4}, 1, 1, "a/b"}, {{5, 6}, 2, 2, std::string(65'535, 'z')}};
  const std::string good = encode_directory(rows);
  auto decoded = decode_directory(good);
  ASSERT_TRUE(decoded.ok());
  ASSERT_EQ(decoded->size(), 3u);
  EXPECT_EQ((*decoded)[1].hash, (ObjectId{3, 4}));
  EXPECT_EQ((*decoded)[2].first_key, rows[2].first_key);
  EXPECT_TRUE(decode_directory(encode_directory({}))->empty());
  std::mt19937 random(3);
  for (int i = 0; i < 3000; ++i) {
    std::string bad = good;
    const size_t at = random() % (i < 1500 ? 100 : bad.size());
    bad[at] = static_cast<char>(bad[at] ^ (1 << random() % 8));
    EXPECT_FALSE(decode_directory(bad).ok());
    EXPECT_FALSE(decode_directory(good.substr(0, random() % good.size())).ok());
  }
}

// Wrong rows with a valid checksum reach every check of the decoder itself.
TEST(RedisDirectory, HostileBytesWithARightChecksumNeverHarm) {
  std::mt19937 random(5);
  const std::string good = encode_directory({{{1, 2}, 3, 4, "a"}, {{3, 4}, 1, 1, "b"}});
  int refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string bad = good.substr(0, 16 + random() % (good.size() - 15));
    for (int k = 0; k < 2 && bad.size() > 16; ++k)
      bad[16 + random() % (bad.size() - 16)] = static_cast<char>(random());
    const uint32_t count = static_cast<uint32_t>(random() % 4);
    const uint64_t checksum = XXH3_64bits_withSeed(bad.data() + 16, bad.size() - 16, count);
    memcpy(&bad[4], &count, 4);
    memcpy(&bad[8], &checksum, 8);
    auto decoded = decode_directory(bad);
    refused += !decoded.ok();
    if (decoded.ok()) {
      EXPECT_EQ(decoded->size(), count);
    }
  }
  EXPECT_GT(refused, 10'000);
}

}  // namespace
}  // namespace larder
