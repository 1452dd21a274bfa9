#include "cached/readahead.h"

#include <gtest/gtest.h>

namespace larder {
namespace {

using Clock = Readahead::Clock;

struct Reader {
  Readahead r;
  Clock::time_point now = Clock::now();
  // Chunks as large as a GET, so that windows are counted in them.
  static Readahead::Limits limits(uint32_t chunks) { return {chunks, 4 << 20, 1, 64 << 20}; }
  Readahead::Plan asked(uint32_t first, uint32_t count = 1, uint32_t chunks = 1000) { return r.asked(first, count, limits(chunks), now); }
  Readahead::Plan passed(uint32_t chunk, uint32_t chunks = 1000) { return r.passed(chunk, limits(chunks), now); }
};

// A sequential reader asks for less and less: windows double, and each begins where the last one ended.
TEST(ReadaheadTest, WindowsOfASequentialReaderDoubleAndNeverOverlap) {
  Reader x;
  Readahead::Plan p = x.asked(0);
  EXPECT_EQ(p.first, 1u);
  EXPECT_EQ(p.count, 4u);
  uint32_t end = 5;
  for (int i = 0; i < 4; ++i) {
    ASSERT_GE(p.mark, p.first);
    ASSERT_LT(p.mark, p.first + p.count);
    Readahead::Plan next = x.passed(p.mark);
    ASSERT_GT(next.count, 0u) << "the next window must start before the reader is through with this one";
    EXPECT_EQ(next.first, end);
    EXPECT_LE(next.count, 16u);
    end = next.first + next.count;
    p = next;
  }
  EXPECT_GE(p.count, 8u) << "far enough ahead to keep the link full";
}

TEST(ReadaheadTest, ARandomReaderGetsWhatItAsksForAndNothingElse) {
  Reader x;
  uint64_t ahead = 0;
  for (uint32_t i = 0; i < 200; ++i) ahead += x.asked(1 + (i * 7919u) % 900).count;
  EXPECT_LE(ahead, 10u);
}

TEST(ReadaheadTest, NothingBeyondTheEnd) {
  Reader x;
  x.asked(0, 1, 5);
  for (uint32_t i = 1; i < 5; ++i) {
    Readahead::Plan p = x.asked(i, 1, 5);
    EXPECT_LE(p.first + p.count, 5u);
  }
  EXPECT_EQ(x.asked(4, 1, 5).count, 0u);
}

TEST(ReadaheadTest, SeveralReadersHaveWindowsOfTheirOwn) {
  Reader x;
  for (uint32_t step = 0; step < 6; ++step)
    for (uint32_t reader = 0; reader < 8; ++reader) x.asked(reader * 100 + step);
  EXPECT_EQ(x.r.active(x.now), 8u);
  EXPECT_GT(x.asked(306).count + x.asked(506).count, 0u);
}

}  // namespace
}  // namespace larder
