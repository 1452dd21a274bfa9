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

// By each width of registers that this processor has, and by the one that it would choose.
void expect_openssls_sums(const std::vector<std::vector<std::byte>>& messages) {
  const std::vector<std::span<const std::byte>> spans(messages.begin(), messages.end());
  std::vector<Md5> right;
  for (const auto& message : messages) {
    Md5Stream one;
    one.update(message);
    right.push_back(one.finish());
  }
  EXPECT_EQ(md5_many(spans), right) << messages.size() << " messages";
  for (Md5Width width : md5_widths())
    EXPECT_EQ(md5_many(spans, width), right) << messages.size() << " messages, " << static_cast<int>(width) << " lanes";
}

// Every length around a block, and any number of messages: a wrong sum would drop good bytes or keep flipped ones.
TEST(Md5LanesTest, AgreesWithOpenSsl) {
  std::mt19937 random(7);
  for (size_t count : {1, 2, 3, 5, 8, 16, 17, 40}) {
    for (size_t base : {0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 128, 5000}) {
      std::vector<std::vector<std::byte>> messages;
      for (size_t i = 0; i < count; ++i)
        messages.push_back(noise(random, base + (base == 5000 ? random() % 3000 : i % 3)));
      expect_openssls_sums(messages);
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
    expect_openssls_sums(messages);
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
