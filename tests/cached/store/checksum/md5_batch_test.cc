#include "cached/store/checksum/md5_batch.h"

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <string>

namespace larder {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// Owners are unique: none is lost, and none comes back twice.
struct Batch {
  Md5Batch<std::unique_ptr<size_t>> batch;
  std::deque<std::string> bodies;
  Clock::time_point start = Clock::now();

  void add(size_t count, milliseconds wait = milliseconds(100), size_t bytes = 3) {
    for (size_t i = 0; i < count; ++i) {
      const std::string& body = bodies.emplace_back(bytes, static_cast<char>('a' + bodies.size() % 26));
      batch.add(std::as_bytes(std::span(body)), start + wait, std::make_unique<size_t>(bodies.size() - 1));
    }
  }

  // The indices of the bodies whose MD5 came, each compared with OpenSSL's.
  std::vector<size_t> hash(milliseconds later, bool idle) {
    std::vector<size_t> out;
    for (auto& [owner, md5] : batch.hash(start + later, idle)) {
      Md5Stream alone;
      alone.update(std::as_bytes(std::span(bodies[*owner])));
      EXPECT_EQ(hex(md5), hex(alone.finish())) << *owner;
      out.push_back(*owner);
    }
    return out;
  }
};

std::vector<size_t> range(size_t first, size_t end) {
  std::vector<size_t> out;
  for (; first < end; ++first)
    out.push_back(first);
  return out;
}

TEST(Md5BatchTest, NothingWaits) {
  Batch b;
  EXPECT_TRUE(b.batch.empty());
  EXPECT_TRUE(b.hash(milliseconds(0), true).empty());
  EXPECT_TRUE(b.batch.abandon().empty());
}

TEST(Md5BatchTest, FullLanesAreHashedAtOnceAndTheRestWaits) {
  Batch b;
  const size_t lanes = md5_lanes();
  b.add(lanes - 1);
  EXPECT_TRUE(b.hash(milliseconds(0), true).empty());
  b.add(2);
  EXPECT_EQ(b.hash(milliseconds(0), false), range(0, lanes));
  EXPECT_FALSE(b.batch.empty());
  EXPECT_EQ(b.hash(milliseconds(100), true), range(lanes, lanes + 1));
  EXPECT_TRUE(b.batch.empty());
}

TEST(Md5BatchTest, OtherWorkPutsItOffALittle) {
  Batch b;
  b.add(1, milliseconds(30));
  b.add(1, milliseconds(10));
  EXPECT_EQ(b.batch.due(), b.start + milliseconds(10));
  EXPECT_TRUE(b.hash(milliseconds(9), true).empty());
  EXPECT_TRUE(b.hash(milliseconds(14), false).empty());
  EXPECT_EQ(b.hash(milliseconds(15), false), range(0, 2));

  b.add(1, milliseconds(30));
  EXPECT_EQ(b.hash(milliseconds(30), true), range(2, 3));
}

// Memory is bounded, and what was hashed no longer counts.
TEST(Md5BatchTest, TooManyBytesAreHashedAtOnce) {
  Batch b;
  b.add(1, milliseconds(100), 16 << 20);
  EXPECT_TRUE(b.hash(milliseconds(0), false).empty());
  b.add(1);
  EXPECT_EQ(b.hash(milliseconds(0), false), range(0, 2));
  b.add(1, milliseconds(100), 1 << 20);
  EXPECT_TRUE(b.hash(milliseconds(0), false).empty());
}

TEST(Md5BatchTest, AbandonedOwnersComeBackInOrder) {
  Batch b;
  b.add(3);
  const auto owners = b.batch.abandon();
  ASSERT_EQ(owners.size(), 3U);
  for (size_t i = 0; i < owners.size(); ++i)
    EXPECT_EQ(*owners[i], i);
  EXPECT_TRUE(b.batch.empty());
  EXPECT_TRUE(b.hash(milliseconds(1000), true).empty());
}

}  // namespace
}  // namespace larder
