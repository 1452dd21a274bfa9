#include "cached/fetch/readahead.h"

#include <gtest/gtest.h>

namespace larder {
namespace {

using Clock = Readahead::Clock;

struct Reader {
  Readahead r;
  Clock::time_point now = Clock::now();
  // Chunks as large as a GET, so that windows are counted in them.
  static Readahead::Limits limits(uint32_t chunks) { return {chunks, 4 << 20, 1, 64 << 20}; }
  Readahead::Plan asked(uint32_t first, uint32_t count = 1, uint32_t chunks = 1000) {
    return r.asked(first, count, true, limits(chunks), now);
  }
  Readahead::Plan passed(uint32_t chunk, uint32_t chunks = 1000) { return r.passed(chunk, limits(chunks), now); }
};

// A sequential reader asks less and less often: windows double, and each begins where the last one ended.
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
  for (uint32_t i = 0; i < 200; ++i)
    ahead += x.asked(1 + (i * 7919u) % 900).count;
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

// Small chunks are for random readers; a sequential reader must have as many bytes under way with them.
TEST(ReadaheadTest, WindowsAreBytesAndEndWhereAGetEnds) {
  Readahead r;
  const Clock::time_point now = Clock::now();
  const Readahead::Limits limits = {10000, 256 << 10, 16, 64 << 20};
  Readahead::Plan p = r.asked(0, 1, false, limits, now);
  EXPECT_EQ(p.first, 1u);
  EXPECT_EQ(p.first + p.count, 80u) << "16 MiB, and the rest of a GET of 4 MiB";
  uint32_t end = 80, longest = 0;
  for (int i = 0; i < 6; ++i) {
    p = r.passed(p.mark, limits, now);
    ASSERT_EQ(p.first, end);
    end = p.first + p.count;
    longest = std::max(longest, p.count);
    EXPECT_EQ(end % 16, 0u);
    EXPECT_LE(end - p.mark, 16u + 256u) << "64 MiB ahead at most";
  }
  EXPECT_GE(longest, 128u);
}

// A reader that looks at the beginning of an object waits for some of its chunks; this alone must not fetch more and
// more.
TEST(ReadaheadTest, WaitingForWhatIsOnItsWayFetchesNoMore) {
  Readahead r;
  const Clock::time_point now = Clock::now();
  const Readahead::Limits limits = {10000, 256 << 10, 16, 64 << 20};
  EXPECT_EQ(r.asked(0, 1, false, limits, now).count, 79u);
  for (uint32_t i = 1; i < 30; ++i) {
    const Readahead::Plan p = r.asked(i, 1, true, limits, now);
    EXPECT_LE(p.first + p.count, i + 1 + 64 + 16) << "the same window, farther on";
  }
}

// What was fetched ahead and evicted is fetched ahead again, not chunk by chunk.
TEST(ReadaheadTest, AWindowThatIsGoneComesAgain) {
  Readahead r;
  const Clock::time_point now = Clock::now();
  const Readahead::Limits limits = {10000, 256 << 10, 16, 64 << 20};
  r.asked(0, 1, false, limits, now);
  Readahead::Plan p = r.asked(20, 1, false, limits, now);
  EXPECT_EQ(p.first, 21u);
  EXPECT_GE(p.count, 64u);
  EXPECT_LT(p.mark, p.first + p.count);
}

// A reader of rows that waits twice within one row is not sequential.
TEST(ReadaheadTest, PartsOfOneReadAreNoSequence) {
  Readahead r;
  const Clock::time_point now = Clock::now();
  const Readahead::Limits limits = {100000, 256 << 10, 16, 64 << 20};
  for (uint32_t row : {500u, 70000u, 20000u}) {
    EXPECT_EQ(r.asked(row, 40, false, limits, now).count, 0u);
    for (uint32_t i : {1u, 2u, 17u, 39u})
      EXPECT_EQ(r.asked(row + i, 40 - i, true, limits, now).count, 0u) << row << " " << i;
  }
  EXPECT_EQ(r.asked(540, 40, false, limits, now).count, 0u) << "one neighbour may be chance";
  EXPECT_EQ(r.asked(580, 40, false, limits, now).first, 620u) << "two are not";
}

TEST(ReadaheadTest, SeveralReadersHaveWindowsOfTheirOwn) {
  Reader x;
  for (uint32_t step = 0; step < 6; ++step)
    for (uint32_t reader = 0; reader < 8; ++reader)
      x.asked(reader * 100 + step);
  EXPECT_EQ(x.r.active(x.now), 8u);
  EXPECT_GT(x.asked(306).count + x.asked(506).count, 0u);
}

}  // namespace
}  // namespace larder
