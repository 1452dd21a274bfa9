#include "cached/cli/units.h"

#include <gtest/gtest.h>

namespace larder::cli {
namespace {

TEST(ParseSize, ReadsWhatPeopleWrite) {
  const std::pair<const char*, uint64_t> kCases[] = {
      {"1", 1},
      {"4096", 4096},
      {"4096B", 4096},
      {"1k", 1024},
      {"1K", 1024},
      {"1kB", 1024},
      {"1KiB", 1024},
      {"512M", 512u << 20},
      {"10 GiB", 10ull << 30},
      {" 1.5g ", 3ull << 29},
      {"2T", 2ull << 40},
      {"0.5k", 512},
      {"1P", 1ull << 50},
  };
  for (const auto& [text, bytes] : kCases) {
    auto size = parse_size(text);
    ASSERT_TRUE(size.ok()) << text << ": " << size.error().message;
    EXPECT_EQ(*size, bytes) << text;
  }
}

TEST(ParseSize, RefusesAndNamesTheText) {
  for (const char* text :
       {"", "G", "ten", "10X", "10Gi", "-1G", "0", "0.1", "1e400", "nan", "inf", "9999999P", "1G2", "10 G G", "0x10"}) {
    auto size = parse_size(text);
    ASSERT_FALSE(size.ok()) << text << " gave " << *size;
    EXPECT_EQ(size.error().code, EINVAL);
    EXPECT_NE(size.error().message.find("'" + std::string(text) + "'"), std::string::npos) << size.error().message;
    EXPECT_NE(size.error().message.find("10G"), std::string::npos) << "no remedy: " << size.error().message;
  }
}

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
}  // namespace larder::cli
