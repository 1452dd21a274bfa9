// A segment that comes back changed is a dataset with wrong files; a damaged one must be an error, never a crash.
#include "cached/meta/segment.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "larder/hash.h"

namespace larder {
namespace {

bool same(const ObjectInfo& a, const ObjectInfo& b) {
  return a.key == b.key && a.size == b.size && a.mtime_ns == b.mtime_ns && a.etag == b.etag;
}

std::string encode(const std::vector<ObjectInfo>& objects) {
  SegmentWriter writer;
  for (auto& object : objects)
    EXPECT_TRUE(writer.add(object).ok());
  return writer.finish();
}

Result<std::vector<ObjectInfo>> decode(std::string_view bytes) {
  std::vector<ObjectInfo> out;
  std::string last;
  auto status = decode_segment(bytes, &last, true, [&](ObjectInfo&& object) -> Status {
    out.push_back(std::move(object));
    return {};
  });
  if (!status.ok()) return status.error();
  return out;
}

const std::string kHex32 = "0123456789abcdef0123456789abcdef";

std::vector<ObjectInfo> odd_objects() {
  return {{"", 0, 0, ""},
          {std::string("\0\x01", 2), 1, INT64_MAX, kHex32},
          {"a", uint64_t{1} << 62, INT64_MIN, kHex32 + "-1"},
          {"a/b", 127, 1'700'000'000'000'000'000, kHex32 + "-10000"},
          {"a/b/c", 128, 1'700'000'000'000'000'000, kHex32 + "-01"},
          {"a/bc", 16384, 1'700'000'000'123'000'000, "0123456789ABCDEF0123456789ABCDEF"},
          {"a/bcd", 5, 1'700'000'000'123'456'789, std::string(255, 'e')},
          {"b", 5, -1, kHex32 + "-99999999999"},
          {std::string(kMaxKeyBytes, 'x'), 5, 0, kHex32 + "-4294967295"},
          {"\xff\xfe", 5, 0, "W/weak"}};
}

TEST(Segment, EveryFieldComesBackAsItWas) {
  const auto objects = odd_objects();
  auto decoded = decode(encode(objects));
  ASSERT_TRUE(decoded.ok()) << decoded.error().message;
  ASSERT_EQ(decoded->size(), objects.size());
  for (size_t i = 0; i < objects.size(); ++i)
    EXPECT_TRUE(same((*decoded)[i], objects[i])) << i;
}

TEST(Segment, HexEtagsTakeSixteenBytes) {
  const std::vector<ObjectInfo> one = {{"k", 1, 0, kHex32}}, none = {{"k", 1, 0, ""}};
  EXPECT_EQ(encode(one).size(), encode(none).size() + 16);
}

TEST(Segment, KeysMustAscendAcrossSegmentsToo) {
  SegmentWriter writer;
  ASSERT_TRUE(writer.add({"b", 0, 0, ""}).ok());
  EXPECT_EQ(writer.add({"b", 0, 0, ""}).error().code, EINVAL);
  EXPECT_EQ(writer.add({"a", 0, 0, ""}).error().code, EINVAL);
  const std::string first = writer.finish();
  EXPECT_EQ(writer.add({"b", 0, 0, ""}).error().code, EINVAL);
  ASSERT_TRUE(writer.add({"c", 0, 0, ""}).ok());
  const std::string second = writer.finish();
  auto nothing = [](ObjectInfo&&) -> Status { return {}; };
  std::string last;
  ASSERT_TRUE(decode_segment(second, &last, true, nothing).ok());
  EXPECT_EQ(decode_segment(first, &last, false, nothing).error().code, EIO) << "segments in the wrong order";
}

TEST(Segment, WhatCannotBeStoredIsRefused) {
  SegmentWriter writer;
  EXPECT_EQ(writer.add({std::string(kMaxKeyBytes + 1, 'k'), 0, 0, ""}).error().code, EINVAL);
  EXPECT_EQ(writer.add({"k", 0, 0, std::string(256, 'e')}).error().code, EINVAL);
  EXPECT_EQ(writer.add({"k", (uint64_t{1} << 62) + 1, 0, ""}).error().code, EINVAL);
  EXPECT_EQ(writer.count(), 0u);
}

TEST(Segment, EveryFlippedBitAndEveryCutIsNoticed) {
  auto objects = odd_objects();
  objects.erase(objects.begin() + 8);  // the long key: too many bits to flip
  const std::string good = encode(objects);
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    EXPECT_FALSE(decode(bad).ok()) << bit;
  }
  for (size_t cut = 0; cut < good.size(); ++cut)
    EXPECT_FALSE(decode(good.substr(0, cut)).ok());
  EXPECT_FALSE(decode(good + "x").ok());
}

// Wrong bytes with a valid checksum reach every check of the decoder itself (the sanitizer build watches).
TEST(Segment, HostileBytesWithARightChecksumNeverHarm) {
  std::mt19937_64 random(7);
  const std::string good = encode(odd_objects());
  int refused = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string bad = good.substr(0, 25 + random() % 400);
    if (round % 2 == 0) bad = good;
    for (int i = 0; i < 3; ++i)
      bad[24 + random() % (std::min<size_t>(bad.size(), 600) - 24)] = static_cast<char>(random());
    uint32_t count = static_cast<uint32_t>(random() % 30), size = static_cast<uint32_t>(bad.size() - 24);
    const uint64_t checksum = XXH3_64bits_withSeed(bad.data() + 24, size, count);
    memcpy(&bad[4], &count, 4);
    memcpy(&bad[8], &size, 4);
    memcpy(&bad[16], &checksum, 8);
    auto decoded = decode(bad);
    if (!decoded.ok()) {
      ++refused;
      EXPECT_EQ(decoded.error().code, EIO);
      continue;
    }
    for (size_t i = 1; i < decoded->size(); ++i)
      EXPECT_LT((*decoded)[i - 1].key, (*decoded)[i].key);
  }
  EXPECT_GT(refused, 10'000);
}

}  // namespace
}  // namespace larder
