#include "cached/requests/status.h"

#include <unistd.h>

#include <algorithm>

#include "cached/base/version.h"

namespace larder {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

static constexpr size_t kMaxDatasets = 200;  // a reply is one packet

// redis://user:password@host without the password.
static std::string without_password(const std::string& url) {
  size_t start = url.find("://"), at = url.rfind('@');
  if (start == url.npos || at == url.npos || at < start) return url;
  return url.substr(0, start + 3) + "***" + url.substr(at);
}

static double seconds_since(Clock::time_point t) {
  return std::chrono::duration<double>(Clock::now() - t).count();
}

AdminAnswer StatusCommands::ping(const AdminCall&) {
  return json{{"version", kVersion},
              {"pid", ::getpid()},
              {"uptime_s", seconds_since(started_)},
              {"private", p_.config.is_private}};
}

AdminAnswer StatusCommands::status(const AdminCall&) {
  return json{{"version", kVersion},
              {"pid", ::getpid()},
              {"uptime_s", seconds_since(started_)},
              {"private", p_.config.is_private},
              {"socket", p_.config.socket},
              {"cache_dir", p_.config.cache_dir},
              {"meta", without_password(p_.config.meta)},
              {"cache", cache()},
              {"clients", {{"connections", p_.server.connections()}, {"present", p_.dir.program_present()}}},
              {"reads", reads()},
              {"store", store()},
              {"mounts", mounts()},
              {"waiting_mounts", waiting_mounts()},
              {"datasets", datasets()}};
}

json StatusCommands::cache() const {
  CacheUsage c = p_.cache.usage();
  return {{"size", c.size},
          {"used", c.used},
          {"pinned_by_readers", c.pinned_by_readers},
          {"staging", c.staging},
          {"files", c.files}};
}

json StatusCommands::reads() const {
  StatTotals s = p_.publisher.stats();
  return {{"warm_opens", s.warm_opens}, {"warm_bytes", s.warm_bytes}, {"miss_opens", s.miss_opens},
          {"stats", s.stats},           {"lists", s.lists},           {"errors", s.errors}};
}

json StatusCommands::store() const {
  StoreCounters sum;
  for (auto& d : p_.datasets.all()) {
    Result<std::shared_ptr<Store>> store = d->store();
    if (!store) continue;
    StoreCounters c = (*store)->counters();
    sum.gets += c.gets;
    sum.lists += c.lists;
    sum.retries += c.retries;
    sum.bytes += c.bytes;
    sum.errors += c.errors;
    sum.hedges += c.hedges;
    sum.limit += c.limit;
  }
  ObjectFetcher::Counts flights = p_.flights.counts();
  return {{"gets", sum.gets},        {"lists", sum.lists},   {"retries", sum.retries}, {"bytes", sum.bytes},
          {"errors", sum.errors},    {"hedges", sum.hedges}, {"limit", sum.limit},     {"in_flight", flights.in_flight},
          {"queued", flights.queued}};
}

json StatusCommands::mount(const Mount& m, const CatalogVersion& v) const {
  const CatalogHeader& h = *v.catalog().header;
  ObjectCache::DatasetUsage used = p_.cache.usage_of(*m.dataset);
  double ratio = h.file_count == 0 ? 0 : std::min(1.0, used.objects / static_cast<double>(h.file_count));
  return {{"path", m.path},
          {"dataset", m.dataset->def.name},
          {"source", m.dataset->def.source},
          {"version", h.version},
          {"objects", h.file_count},
          {"bytes", h.total_bytes},
          {"skipped", h.skipped},
          {"cached_files", used.files},
          {"cached_bytes", used.bytes},
          {"lazy_partial", used.lazy_partial},
          {"predicted_hit_ratio", ratio},
          {"in_use", p_.cache.in_use(*m.dataset)},
          {"pinned_files", used.pinned_files},
          {"pinned_bytes", used.pinned_bytes},
          {"policy", policy_name(m.dataset->policy)},
          {"quota", m.dataset->quota.load()},
          {"fill", {{"state", p_.filler.state(*m.dataset)}, {"done", used.files}, {"total", h.file_count}}}};
}

json StatusCommands::mounts() const {
  json list = json::array();
  for (const Mount& m : p_.datasets.mounts())
    if (std::shared_ptr<CatalogVersion> v = m.dataset->version()) list.push_back(mount(m, *v));
  return list;
}

json StatusCommands::waiting_mounts() const {
  json list = json::array();
  for (const WaitingMount& w : p_.datasets.waiting())
    list.push_back(
        {{"path", w.request.path}, {"dataset", w.request.name}, {"source", w.request.source}, {"trouble", w.trouble}});
  return list;
}

json StatusCommands::datasets() const {
  json list = json::array();
  for (auto& d : p_.datasets.all()) {
    if (d->def.name.empty() || list.size() >= kMaxDatasets) continue;
    list.push_back({{"name", d->def.name},
                    {"source", d->def.source},
                    {"mounted", d->version() != nullptr},
                    {"trouble", d->trouble()}});
  }
  return list;
}

}  // namespace larder
