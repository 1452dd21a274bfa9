// What a running larderd tells Prometheus (docs/metrics.md), made from what `larder status --json` says. Threads: any.
#pragma once
#include <prometheus/metric_family.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace larder {

// Counters that end in _total, gauges, and histograms in seconds. What `status` does not have is left out.
std::vector<prometheus::MetricFamily> metric_families(const nlohmann::json& status);

// In the text format 0.0.4.
std::string prometheus_text(const std::vector<prometheus::MetricFamily>& families);

}  // namespace larder
