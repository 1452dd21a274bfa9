#include "cached/store/checksum/md5_lanes.h"

#include <gtest/gtest.h>

#include <random>

namespace larder {
namespace {

std::vector<std::byte> noise(std::mt19937& random, size_t size) {
  std::vector<std::byte> out(size);
  for (auto& b : out)
    b = static_cast<std::byte>(random());
  return out;
}

// Every length around a block, and any number of messages: a wrong sum would drop good bytes or keep flipped ones.
TEST(Md5LanesTest, AgreesWithOpenSsl) {
  std::mt19937 random(7);
  for (size_t count : {1, 2, 3, 5, 8, 16, 17, 40}) {
    for (size_t base : {0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 128, 5000}) {
      std::vector<std::vector<std::byte>> messages;
      for (size_t i = 0; i < count; ++i)
        messages.push_back(noise(random, base + (base == 5000 ? random() % 3000 : i % 3)));
      std::vector<std::span<const std::byte>> spans(messages.begin(), messages.end());
      const auto got = md5_many(spans);
      ASSERT_EQ(got.size(), count);
      for (size_t i = 0; i < count; ++i) {
        Md5Stream one;
        one.update(messages[i]);
        ASSERT_EQ(hex(got[i]), hex(one.finish())) << i << " of " << count << ", " << messages[i].size() << " bytes";
      }
    }
  }
}

// Lanes that end early take up the next message, or another lane moves to their place.
TEST(Md5LanesTest, MessagesOfVeryDifferentLengths) {
  std::mt19937 random(9);
  for (size_t count : {2, 7, 15, 31, 32, 33, 64, 90}) {
    std::vector<std::vector<std::byte>> messages;
    for (size_t i = 0; i < count; ++i)
      messages.push_back(noise(random, i % 7 == 0 ? random() % 3 : random() % (1u << (6 + i % 10))));
    std::vector<std::span<const std::byte>> spans(messages.begin(), messages.end());
    const auto got = md5_many(spans);
    for (size_t i = 0; i < count; ++i) {
      Md5Stream one;
      one.update(messages[i]);
      ASSERT_EQ(hex(got[i]), hex(one.finish())) << i << " of " << count << ", " << messages[i].size() << " bytes";
    }
  }
}

TEST(Md5LanesTest, OneBitIsAnotherSum) {
  std::mt19937 random(8);
  std::vector<std::vector<std::byte>> messages(5, noise(random, 1000));
  messages[3][999] ^= std::byte{1};
  std::vector<std::span<const std::byte>> spans(messages.begin(), messages.end());
  const auto got = md5_many(spans);
  EXPECT_EQ(got[0], got[4]);
  EXPECT_NE(got[0], got[3]);
}

}  // namespace
}  // namespace larder
