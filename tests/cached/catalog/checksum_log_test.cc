#include "cached/catalog/checksum_log.h"

#include "tests/cached/fakes.h"

namespace larder {
namespace {

class ChecksumLogTest : public ::testing::Test {
 protected:
  std::unique_ptr<ChecksumLog> open() { return std::move(*ChecksumLog::open(folder.get(), folder.get(), meter)); }
  test::TempFolder t;
  Fd folder{::open(t.path().c_str(), O_RDONLY | O_DIRECTORY)};
  Meter meter{0};
};

TEST_F(ChecksumLogTest, OutlivesItsWriter) {
  auto log = open();
  for (uint64_t i = 0; i < 1000; ++i)
    ASSERT_TRUE(log->append({i, i * 3}, i + 1).ok());
  ASSERT_TRUE(log->append({5, 15}, 99).ok());  // fetched again: the last one counts
  log = open();
  EXPECT_EQ(log->records(), 1001u) << "the zeros of the last page are none";
  Result<Sums> sums = log->load();
  EXPECT_EQ(sums->find({7, 21}), 8u);
  EXPECT_EQ(sums->find({5, 15}), 99u);
  EXPECT_EQ(sums->find({7, 22}), std::nullopt);
  EXPECT_EQ(meter.load(), on_disk(1001 * sizeof(SumRecord)));
}

TEST_F(ChecksumLogTest, TornAndDamagedRecordsAreAsIfTheyWereNotThere) {
  {
    auto log = open();
    for (uint64_t i = 0; i < 4; ++i)
      ASSERT_TRUE(log->append({i, i}, i).ok());
  }
  Fd fd(::openat(folder.get(), "sums", O_RDWR));
  ASSERT_TRUE(pwrite_all(fd.get(), "X", 1, sizeof(SumRecord) + 3).ok());
  ASSERT_EQ(::ftruncate(fd.get(), 3 * sizeof(SumRecord) + 11), 0);
  auto log = open();
  ASSERT_TRUE(log->append({9, 9}, 99).ok());
  Result<Sums> sums = log->load();
  EXPECT_EQ(sums->find({0, 0}), 0u);
  EXPECT_EQ(sums->find({1, 1}), std::nullopt);
  EXPECT_EQ(sums->find({2, 2}), 2u);
  EXPECT_EQ(sums->find({3, 3}), std::nullopt);
  EXPECT_EQ(sums->find({9, 9}), 99u);
}

TEST_F(ChecksumLogTest, CompactionKeepsWhatLives) {
  auto log = open();
  for (uint64_t i = 0; i < 100; ++i)
    ASSERT_TRUE(log->append({i, 0}, i).ok());
  ASSERT_TRUE(log->compact({{3, 0}, {50, 0}, {1000, 0}}).ok());
  EXPECT_EQ(log->records(), 2u);
  ASSERT_TRUE(log->append({4, 0}, 44).ok());
  Result<Sums> sums = log->load();
  EXPECT_EQ(sums->find({50, 0}), 50u);
  EXPECT_EQ(sums->find({4, 0}), 44u);
  EXPECT_EQ(sums->find({5, 0}), std::nullopt);
}

}  // namespace
}  // namespace larder
