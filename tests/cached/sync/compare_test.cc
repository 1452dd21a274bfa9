// When a sync copies: a rule that says "the same" too easily leaves old bytes behind.
#include "cached/sync/compare.h"

#include <gtest/gtest.h>

#include "cached/store/api/upload.h"

namespace larder {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

TEST(CompareTest, AFileHasTheTimeOfItsOriginalOrThatTimeCutShort) {
  const int64_t t = 1'700'000'000 * kSecond + 123'456'789;
  EXPECT_TRUE(same_time(t, t, true));
  EXPECT_TRUE(same_time(t, 1'700'000'000 * kSecond + 123'456'000, true)) << "us";
  EXPECT_TRUE(same_time(t, 1'700'000'000 * kSecond + 123'000'000, true)) << "ms";
  EXPECT_TRUE(same_time(t, 1'700'000'000 * kSecond, true)) << "seconds: aws s3 sync, FAT";
  EXPECT_FALSE(same_time(t, t + 1, true));
  EXPECT_FALSE(same_time(t, t - 1, true));
  EXPECT_FALSE(same_time(t, t + kSecond, true)) << "a newer file is a changed one";
  EXPECT_TRUE(same_time(-kSecond / 2, -kSecond, true)) << "before 1970, times are cut downwards, too";
}

TEST(CompareTest, AnObjectIsNotOlderThanItsOriginal) {
  EXPECT_TRUE(same_time(5 * kSecond, 5 * kSecond, false));
  EXPECT_TRUE(same_time(5 * kSecond, 9 * kSecond, false));
  EXPECT_FALSE(same_time(5 * kSecond + 1, 5 * kSecond, false))
      << "changed in the second of the upload: copied once more";
}

TEST(PartSizeTest, NoObjectNeedsMoreThanTenThousandParts) {
  constexpr uint64_t kMiB = 1 << 20, kGiB = 1 << 30, kTiB = kGiB * 1024;
  EXPECT_EQ(upload_part_bytes(17 * kMiB), 8 * kMiB);
  EXPECT_EQ(upload_part_bytes(80'000 * kMiB), 8 * kMiB) << "10,000 parts of 8 MiB";
  EXPECT_EQ(upload_part_bytes(80'000 * kMiB + 1), 9 * kMiB);
  for (uint64_t size : {uint64_t{1}, 8 * kMiB, 8 * kMiB + 1, 100 * kGiB, 5 * kTiB, 48 * kTiB}) {
    const uint64_t part = upload_part_bytes(size);
    const int count = part_count(size, part);
    EXPECT_LE(count, kMaxUploadParts) << size;
    EXPECT_GE(static_cast<uint64_t>(count) * part, size) << "the parts hold all of it";
    EXPECT_LT(static_cast<uint64_t>(count - 1) * part, size) << "and none is empty";
    EXPECT_LE(part, 5 * kGiB) << "the most that a part may have";
  }
  EXPECT_EQ(part_count(0, 8 * kMiB), 1);
}

}  // namespace
}  // namespace larder
