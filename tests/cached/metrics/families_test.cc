// A name or a type that changes breaks people's dashboards; a value that is lost hides trouble.
#include "cached/metrics/families.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cached/metrics/metrics_server.h"

namespace larder {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

std::string text_of(const json& status) {
  return prometheus_text(metric_families(status));
}

TEST(MetricFamilies, AMountIsLabelled) {
  const std::string text = text_of({{"version", "1.2"},
                                    {"mounts", {{{"dataset", "a\"b"}, {"path", "/data/x"}, {"objects", 7}}}},
                                    {"datasets", {{{"name", "d"}, {"trouble", "gone"}, {"store", {{"gets", 3}}}}}}});
  EXPECT_THAT(text, HasSubstr("larder_build_info{version=\"1.2\"} 1"));
  EXPECT_THAT(text, HasSubstr("larder_dataset_files{dataset=\"a\\\"b\",path=\"/data/x\"} 7"));
  EXPECT_THAT(text, HasSubstr("larder_store_requests_total{dataset=\"d\",op=\"get\"} 3"));
  EXPECT_THAT(text, HasSubstr("larder_dataset_trouble{dataset=\"d\"} 1"));
  EXPECT_THAT(text, HasSubstr("larder_mounts 1"));
}

TEST(MetricFamilies, WhatIsNotKnownIsLeftOut) {
  EXPECT_THAT(text_of({{"version", "1"}}), Not(HasSubstr("larder_cache_size_bytes")));
  EXPECT_THAT(text_of({{"version", "1"}, {"cache", {{"size", 5}}}}), HasSubstr("larder_cache_size_bytes 5"));
}

TEST(MetricFamilies, BucketsOfAHistogramAddUp) {
  const std::string text =
      text_of({{"version", "1"}, {"miss_waits", {{"bounds", {0.001, 0.01}}, {"counts", {1, 2, 4}}, {"sum", 9.5}}}});
  EXPECT_THAT(text, HasSubstr("larder_miss_wait_seconds_bucket{le=\"0.01\"} 3"));
  EXPECT_THAT(text, HasSubstr("larder_miss_wait_seconds_bucket{le=\"+Inf\"} 7"));
  EXPECT_THAT(text, HasSubstr("larder_miss_wait_seconds_count 7"));
  EXPECT_THAT(text, HasSubstr("larder_miss_wait_seconds_sum 9.5"));
}

TEST(MetricsAddress, HostAndPort) {
  EXPECT_EQ(*parse_address("127.0.0.1:9568"), std::pair(std::string("127.0.0.1"), 9568));
  EXPECT_EQ(parse_address("[::1]:0")->first, "::1");
  for (const char* bad : {"", "9568", ":9568", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000", "::1:9568", "a:1 "})
    EXPECT_EQ(parse_address(bad).error().code, EINVAL) << bad;
}

}  // namespace
}  // namespace larder
