#include "cached/base/units.h"

#include <gtest/gtest.h>

namespace larder {
namespace {

TEST(Format, Bytes) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1024), "1.0 KiB");
  EXPECT_EQ(format_bytes(110 * 1024.0), "110.0 KiB");
  EXPECT_EQ(format_bytes(1048575), "1.0 MiB");  // not "1024.0 KiB"
  EXPECT_EQ(format_bytes(3.5 * (1ull << 40)), "3.5 TiB");
}

TEST(Format, CountsAndTimes) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(1281167), "1,281,167");
  EXPECT_EQ(format_duration(7.2), "0:07");
  EXPECT_EQ(format_duration(723), "12:03");
  EXPECT_EQ(format_duration(3723), "1:02:03");
  EXPECT_EQ(format_duration(3 * 86400 + 4 * 3600 + 300), "3 d 04:05");
  EXPECT_EQ(format_duration(-1), "0:00");
}

}  // namespace
}  // namespace larder
