#include "cached/requests/status.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "cached/base/version.h"
#include "cached/requests/may_read.h"
#include "larder/keeper.h"

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

AdminAnswer StatusCommands::status(const AdminCall& call) {
  const Peer& peer = call.peer();
  return report([&](std::optional<gid_t> group) { return may_read(peer, group); },
                peer.uid == 0 || peer.uid == ::geteuid(), peer.uid);
}

json StatusCommands::report(const MaySee& may_see, bool all, std::optional<uid_t> viewer) const {
  return json{{"version", kVersion},
              {"pid", ::getpid()},
              {"uptime_s", seconds_since(started_)},
              {"private", p_.config.is_private},
              {"keeper", keeper()},
              {"socket", p_.config.socket},
              {"cache_dir", p_.dir.home().path()},
              {"home", home()},
              {"meta", without_password(p_.config.meta)},
              {"cache", cache()},
              {"clients", {{"connections", p_.server.connections()}, {"present", p_.dir.program_present()}}},
              {"reads", reads()},
              {"miss_waits", miss_waits()},
              {"store", store()},
              {"mounts", mounts(may_see)},
              {"waiting_mounts", waiting_mounts(all)},
              {"warm_jobs", p_.warm_jobs.status(viewer, all)},
              {"datasets", datasets(may_see)}};
}

json StatusCommands::home() const {
  const Home& h = p_.dir.home();
  const FsSpace space = p_.dir.space();
  return {{"kind", h.kind() == HomeKind::kOwn ? "own" : "folder"},
          {"read_only", h.read_only()},
          {"reason", h.reason()},
          {"size", space.total},
          {"free", space.free},
          {"free_inodes", std::min<uint64_t>(space.free_inodes, INT64_MAX)}};
}

static std::string variable(const char* name) {
  const char* value = std::getenv(name);  // nothing changes the environment after the start
  return value ? value : "";
}

// Who keeps this daemon, and how the one before it died.
json StatusCommands::keeper() const {
  const std::string pid = variable(kKeeperPidVariable);
  if (pid.empty()) return nullptr;
  return {{"pid", std::strtoul(pid.c_str(), nullptr, 10)},
          {"restarts", std::strtoull(variable(kRestartsVariable).c_str(), nullptr, 10)},
          {"last_end", variable(kLastEndVariable)}};
}

json StatusCommands::cache() const {
  CacheUsage c = p_.cache.usage();
  return {{"size", c.size},       {"used", c.used},   {"pinned_by_readers", c.pinned_by_readers},
          {"staging", c.staging}, {"files", c.files}, {"passing", c.passing},
          {"passed", c.passed}};
}

json StatusCommands::reads() const {
  StatTotals s = p_.publisher.stats();
  return {{"warm_opens", s.warm_opens}, {"warm_bytes", s.warm_bytes}, {"miss_opens", s.miss_opens},
          {"stats", s.stats},           {"lists", s.lists},           {"errors", s.errors}};
}

json StatusCommands::miss_waits() const {
  json bounds = json::array(), counts = json::array();
  for (int i = 0; i <= Histogram::kBounds; ++i) {
    if (i < Histogram::kBounds) bounds.push_back(Histogram::bound_s(i));
    counts.push_back(p_.miss_waits.count(i));
  }
  return {{"bounds", bounds}, {"counts", counts}, {"sum", p_.miss_waits.sum_s()}};
}

static StoreCounters counters_of(Dataset& dataset) {
  Result<std::shared_ptr<Store>> store = dataset.store();
  return store ? (*store)->counters() : StoreCounters();
}

static json requests_of(const StoreCounters& c) {
  return {{"gets", c.gets},     {"lists", c.lists},   {"retries", c.retries}, {"bytes", c.bytes},
          {"errors", c.errors}, {"hedges", c.hedges}, {"limit", c.limit}};
}

json StatusCommands::store() const {
  StoreCounters sum;
  for (auto& d : p_.datasets.all()) {
    StoreCounters c = counters_of(*d);
    sum.gets += c.gets;
    sum.lists += c.lists;
    sum.retries += c.retries;
    sum.bytes += c.bytes;
    sum.errors += c.errors;
    sum.hedges += c.hedges;
    sum.limit += c.limit;
  }
  ObjectFetcher::Counts flights = p_.flights.counts();
  json out = requests_of(sum);
  out["in_flight"] = flights.in_flight;
  out["queued"] = flights.queued;
  return out;
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

json StatusCommands::mounts(const MaySee& may_see) const {
  json list = json::array();
  for (const Mount& m : p_.datasets.mounts()) {
    std::shared_ptr<CatalogVersion> v = m.dataset->version();
    if (v && may_see(m.dataset->group)) list.push_back(mount(m, *v));
  }
  return list;
}

json StatusCommands::waiting_mounts(bool all) const {
  json list = json::array();
  for (const WaitingMount& w : p_.datasets.waiting()) {
    if (all)
      list.push_back({{"path", w.request.path},
                      {"dataset", w.request.name},
                      {"source", w.request.source},
                      {"trouble", w.trouble}});
    else
      list.push_back({{"path", w.request.path}, {"dataset", ""}, {"source", ""}, {"trouble", "not served yet"}});
  }
  return list;
}

json StatusCommands::datasets(const MaySee& may_see) const {
  json list = json::array();
  for (auto& d : p_.datasets.all()) {
    if (d->def.name.empty() || list.size() >= kMaxDatasets || !may_see(d->group)) continue;
    list.push_back({{"name", d->def.name},
                    {"source", d->def.source},
                    {"mounted", d->version() != nullptr},
                    {"trouble", d->trouble()},
                    {"store", requests_of(counters_of(*d))}});
  }
  return list;
}

}  // namespace larder
