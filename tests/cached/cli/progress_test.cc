#include "cached/cli/progress.h"

#include <gtest/gtest.h>

namespace larder::cli {
namespace {

TEST(RenderProgress, ShowsBarCountsRateAndTimeLeft) {
  RateMeter meter;
  meter.add(0, {0, 100, 0, 100 << 20, 0});
  meter.add(2, {25, 100, 25 << 20, 100 << 20, 0});
  EXPECT_EQ(render_progress("warming", {25, 100, 25 << 20, 100 << 20, 0}, meter, 120),
            "warming  [######..................]  25%  25/100  25.0 MiB  12.5 MiB/s  0:06 left");
}

TEST(RenderProgress, WithoutATotalThereIsNoBar) {
  RateMeter meter;
  meter.add(0, {0, 0, 0, 0, 0});
  meter.add(1, {5000, 0, 0, 0, 0});
  EXPECT_EQ(render_progress("listing", {5000, 0, 0, 0, 0}, meter, 120), "listing  5,000  5,000/s");
}

TEST(RenderProgress, NamesFailuresAndFitsTheWidth) {
  RateMeter meter;
  std::string line = render_progress("warming", {1, 2, 0, 0, 1}, meter, 200);
  EXPECT_NE(line.find("1 failed"), std::string::npos);
  for (int width : {0, 1, 10, 40, 60, 79})
    EXPECT_LE(render_progress("warming", {1, 2, 3, 4, 1}, meter, width).size(), static_cast<size_t>(width));
}

TEST(RenderProgress, MoreThanTheTotalStaysFull) {
  RateMeter meter;
  EXPECT_NE(render_progress("x", {7, 5, 0, 0, 0}, meter, 200).find("[########################] 100%"),
            std::string::npos);
}

TEST(RateMeter, FollowsAChangeOfSpeed) {
  RateMeter meter;
  for (int s = 0; s <= 10; ++s)
    meter.add(s, {static_cast<uint64_t>(s) * 1000, 0, 0, 0, 0});
  EXPECT_DOUBLE_EQ(meter.items_per_second(), 1000);
  for (int s = 11; s <= 20; ++s)
    meter.add(s, {10000, 0, 0, 0, 0});
  EXPECT_DOUBLE_EQ(meter.items_per_second(), 0) << "it stands still and must show so";
}

TEST(RateMeter, TimeLeft) {
  RateMeter meter;
  EXPECT_LT(meter.seconds_left(), 0);
  meter.add(0, {0, 100, 0, 0, 0});
  EXPECT_LT(meter.seconds_left(), 0) << "no rate yet";
  meter.add(4, {40, 100, 0, 0, 0});
  EXPECT_DOUBLE_EQ(meter.seconds_left(), 6);
  meter.add(5, {100, 100, 0, 0, 0});
  EXPECT_DOUBLE_EQ(meter.seconds_left(), 0);
}

}  // namespace
}  // namespace larder::cli
