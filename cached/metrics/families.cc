#include "cached/metrics/families.h"

#include <prometheus/text_serializer.h>

namespace larder {

using nlohmann::json;
using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

namespace {

// One value of the status, and the family that it goes to.
struct Row {
  const char* key;  // of the status, "a/b" for what lies in an object
  const char* name;
  MetricType type;
  const char* help;
  Labels labels = {};
};

constexpr MetricType kGauge = MetricType::Gauge, kCounter = MetricType::Counter;

const std::vector<Row> kNode = {
    {"uptime_s", "larder_uptime_seconds", kGauge, "Time since larderd started"},
    {"cache/size", "larder_cache_size_bytes", kGauge, "cache_size: what the cache may take"},
    {"cache/used", "larder_cache_used_bytes", kGauge, "What files and tables take, also unlinked files still open"},
    {"cache/pinned_by_readers", "larder_cache_open_bytes", kGauge, "Evicted files that programs still have open"},
    {"cache/staging", "larder_cache_staging_bytes", kGauge, "Files that are recycled soon"},
    {"cache/files", "larder_cache_files", kGauge, "Files in the cache"},
    {"clients/connections", "larder_connections", kGauge, "Connections to the socket"},
    {"reads/warm_opens", "larder_opens_total", kCounter, "Files opened below mounts", {{"result", "hit"}}},
    {"reads/miss_opens", "larder_opens_total", kCounter, "Files opened below mounts", {{"result", "miss"}}},
    {"reads/warm_bytes", "larder_opened_bytes_total", kCounter, "Sizes of the files that were opened as hits"},
    {"reads/stats", "larder_stats_total", kCounter, "Calls of the stat family below mounts"},
    {"reads/lists", "larder_lists_total", kCounter, "Folders opened below mounts"},
    {"reads/errors", "larder_read_errors_total", kCounter, "Calls below mounts that failed because of Larder"},
    {"store/in_flight", "larder_store_in_flight", kGauge, "Objects on their way from a store"},
    {"store/queued", "larder_store_queued", kGauge, "Objects that wait for a connection"},
};

const std::vector<Row> kMount = {
    {"objects", "larder_dataset_files", kGauge, "Files of the dataset's version"},
    {"bytes", "larder_dataset_bytes", kGauge, "Bytes of the dataset's version"},
    {"skipped", "larder_dataset_skipped_keys", kGauge, "Keys that no file can have"},
    {"cached_files", "larder_dataset_cached_files", kGauge, "Files that are whole in the cache"},
    {"cached_bytes", "larder_dataset_cached_bytes", kGauge, "Bytes in the cache"},
    {"in_use", "larder_dataset_open_files", kGauge, "Cached files that programs have open"},
    {"pinned_bytes", "larder_dataset_pinned_bytes", kGauge, "Bytes that an operator pinned, cached or not"},
    {"predicted_hit_ratio", "larder_dataset_predicted_hit_ratio", kGauge, "Hit ratio of a shuffled epoch from now on"},
};

const std::vector<Row> kStore = {
    {"store/gets", "larder_store_requests_total", kCounter, "Requests to stores", {{"op", "get"}}},
    {"store/lists", "larder_store_requests_total", kCounter, "Requests to stores", {{"op", "list"}}},
    {"store/retries", "larder_store_retries_total", kCounter, "Requests that were another attempt"},
    {"store/hedges", "larder_store_hedges_total", kCounter, "Second requests for objects whose first was slow"},
    {"store/errors", "larder_store_errors_total", kCounter, "Requests that failed after all attempts"},
    {"store/bytes", "larder_store_bytes_total", kCounter, "Bytes of objects that arrived"},
};

class Families {
 public:
  void add(const Row& row, const json& from, const Labels& labels) {
    const json::json_pointer at(std::string("/") + row.key);
    if (!from.contains(at) || !from.at(at).is_number()) return;
    Labels all = labels;
    all.insert(all.end(), row.labels.begin(), row.labels.end());
    add(row.name, row.type, row.help, all, from.at(at).get<double>());
  }
  void add(const char* name, MetricType type, const char* help, const Labels& labels, double value) {
    ClientMetric metric;
    metric.label = labels;
    (type == kCounter ? metric.counter.value : metric.gauge.value) = value;
    family(name, type, help).metric.push_back(std::move(metric));
  }
  MetricFamily& family(const char* name, MetricType type, const char* help) {
    for (MetricFamily& known : all_)
      if (known.name == name) return known;
    all_.push_back({name, help, type, {}});
    return all_.back();
  }
  std::vector<MetricFamily> take() { return std::move(all_); }

 private:
  std::vector<MetricFamily> all_;
};

// {"bounds": [...], "counts": [...], "sum": ...}: counts of each bucket, the last without a bound.
void add_histogram(Families& out, const char* name, const char* help, const json& from) {
  if (!from.is_object()) return;
  ClientMetric metric;
  uint64_t sum = 0;
  const json &bounds = from.at("bounds"), &counts = from.at("counts");
  for (size_t i = 0; i < counts.size(); ++i) {
    sum += counts[i].get<uint64_t>();
    const double bound = i < bounds.size() ? bounds[i].get<double>() : std::numeric_limits<double>::infinity();
    metric.histogram.bucket.push_back({sum, bound});
  }
  metric.histogram.sample_count = sum;
  metric.histogram.sample_sum = from.at("sum").get<double>();
  out.family(name, MetricType::Histogram, help).metric.push_back(std::move(metric));
}

}  // namespace

std::vector<MetricFamily> metric_families(const json& status) {
  Families out;
  out.add("larder_build_info", kGauge, "1, and the version", {{"version", status.value("version", "")}}, 1);
  for (const Row& row : kNode)
    out.add(row, status, {});
  for (const json& mount : status.value("mounts", json::array())) {
    const Labels labels = {{"dataset", mount.value("dataset", "")}, {"path", mount.value("path", "")}};
    for (const Row& row : kMount)
      out.add(row, mount, labels);
  }
  out.add("larder_mounts", kGauge, "Mounts that are served", {}, double(status.value("mounts", json::array()).size()));
  out.add("larder_mounts_waiting", kGauge, "Mounts that are tried again", {},
          double(status.value("waiting_mounts", json::array()).size()));
  for (const json& dataset : status.value("datasets", json::array())) {
    const Labels labels = {{"dataset", dataset.value("name", "")}};
    const bool trouble = !dataset.value("trouble", "").empty();
    out.add("larder_dataset_trouble", kGauge, "1: larder status says what is wrong", labels, trouble);
    for (const Row& row : kStore)
      out.add(row, dataset, labels);
  }
  add_histogram(out, "larder_miss_wait_seconds", "How long programs waited for files that were not in the cache",
                status.value("miss_waits", json()));
  return out.take();
}

std::string prometheus_text(const std::vector<MetricFamily>& families) {
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace larder
