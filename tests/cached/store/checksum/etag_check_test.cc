// ETags as S3 makes them; the expected ones are from Python's hashlib.
#include "cached/store/checksum/etag_check.h"

#include <gtest/gtest.h>

namespace larder {
namespace {

constexpr uint64_t kMiB = 1 << 20;

std::vector<std::byte> bytes_of_6_mib_and_123() {
  std::vector<std::byte> out(6 * kMiB + 123);
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = static_cast<std::byte>(i % 1000 * 7 % 251);
  return out;
}

// In pieces of odd sizes, as they come from a socket.
bool matches(const std::string& etag, const std::vector<std::byte>& data) {
  EtagCheck check(etag, data.size());
  EXPECT_TRUE(check.tells()) << etag;
  for (size_t at = 0; at < data.size(); at += 65537)
    check.update(std::span(data).subspan(at, std::min<size_t>(65537, data.size() - at)));
  return check.matches();
}

TEST(EtagCheckTest, OneByteThatIsAnotherIsSeenWhateverTheParts) {
  auto data = bytes_of_6_mib_and_123();
  const std::string etags[] = {"a8f1afd73f55ec432ba54aa1a1c13ab1", "A8F1AFD73F55EC432BA54AA1A1C13AB1",
                               "5cd0108cdb37f67f8a46c8314abf0998-2", "fe094007bec580490110b3c12273e825-1"};
  for (auto& etag : etags)
    EXPECT_TRUE(matches(etag, data)) << etag;
  data[data.size() - 1] ^= std::byte{1};
  for (auto& etag : etags)
    EXPECT_FALSE(matches(etag, data)) << etag;
}

TEST(EtagCheckTest, WhatTellsNothingIsNotCompared) {
  for (const char* etag : {"", "5f3a-1a2b", "5cd0108cdb37f67f8a46c8314abf0998-3", "5cd0108cdb37f67f8a46c8314abf0998-",
                           "5cd0108cdb37f67f8a46c8314abf0998-0", "-a8f1afd73f55ec432ba54aa1a1c13ab1",
                           "5cd0108cdb37f67f8a46c8314abf099z-2"}) {
    EXPECT_FALSE(EtagCheck(etag, 6 * kMiB + 123).tells()) << etag;
  }
  EXPECT_FALSE(EtagCheck("d41d8cd98f00b204e9800998ecf8427e", 0).tells());
}

TEST(EtagCheckTest, EverySizeOfPartsThatFitsIsTried) {
  EXPECT_EQ(likely_part_bytes("5cd0108cdb37f67f8a46c8314abf0998-2", 16 * kMiB),
            (std::vector<uint64_t>{8 * kMiB, 15 * kMiB}));
  EXPECT_EQ(likely_part_bytes("5cd0108cdb37f67f8a46c8314abf0998-1", 16 * kMiB), std::vector<uint64_t>{16 * kMiB});
}

TEST(EtagCheckTest, OnlyAnMd5IsTakenForOne) {
  ASSERT_TRUE(md5_of_etag("D41D8CD98F00B204E9800998ECF8427E"));
  EXPECT_EQ(hex(*md5_of_etag("D41D8CD98F00B204E9800998ECF8427E")), "d41d8cd98f00b204e9800998ecf8427e");
  for (const char* etag : {"d41d8cd98f00b204e9800998ecf8427e-3", "-41d8cd98f00b204e9800998ecf8427e", ""})
    EXPECT_FALSE(md5_of_etag(etag)) << etag;
}

}  // namespace
}  // namespace larder
