#include "cached/requests/admin.h"

#include <fmt/format.h>
#include <grp.h>

#include <nlohmann/json.hpp>

#include "cached/base/files.h"
#include "cached/base/log.h"
#include "cached/requests/may_read.h"
#include "cached/requests/warm_job.h"

namespace larder {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

static constexpr auto kProgressEvery = std::chrono::milliseconds(200);
static constexpr size_t kMaxListed = 100;             // corrupt files, skipped keys in one answer: a packet is bounded
static constexpr size_t kMaxDatasets = 200;           // datasets in a status
static constexpr size_t kMaxNodesBytes = 100 * 1024;  // a reply is one packet

// Names are bytes; what is not UTF-8 is replaced.
static std::string to_text(const json& j) {
  return j.dump(-1, ' ', false, json::error_handler_t::replace);
}

// One request, with what its operation needs to read arguments and to report.
struct Admin::Call {
  json args;
  Peer peer;
  std::shared_ptr<Replier> reply;
  const std::atomic<bool>* stopping;
  Clock::time_point received = Clock::now();

  bool cancelled() const { return reply->gone() || stopping->load(); }
  Result<std::string> text(const char* key, bool needed = true) const {
    auto it = args.find(key);
    if (it == args.end()) {
      if (needed) return make_error(EINVAL, fmt::format("the request has no \"{}\"", key));
      return std::string();
    }
    if (!it->is_string()) return make_error(EINVAL, fmt::format("\"{}\" is not a text", key));
    return it->get<std::string>();
  }
  Result<bool> flag(const char* key, bool otherwise) const {
    auto it = args.find(key);
    if (it == args.end()) return otherwise;
    if (!it->is_boolean()) return make_error(EINVAL, fmt::format("\"{}\" is not true or false", key));
    return it->get<bool>();
  }
  // An object whose values are texts; absent: empty.
  Result<StoreOptions> texts(const char* name) const {
    StoreOptions texts;
    auto it = args.find(name);
    if (it == args.end() || it->is_null()) return texts;
    if (!it->is_object()) return make_error(EINVAL, fmt::format("\"{}\" is not an object", name));
    for (auto& [key, value] : it->items()) {
      if (!value.is_string()) return make_error(EINVAL, fmt::format("{}: \"{}\" is not a text", name, shown(key)));
      texts[key] = value.get<std::string>();
    }
    return texts;
  }
  // How long ago the request was decided on, as its sender says: at most an hour.
  Clock::time_point asked() const {
    auto it = args.find("age_ms");
    const bool given = it != args.end() && it->is_number_unsigned();
    const uint64_t age_ms = given ? std::min<uint64_t>(it->get<uint64_t>(), 3'600'000) : 0;
    return received - std::chrono::milliseconds(age_ms);
  }
  // A reporter that sends at most five packets a second.
  Progress progress() const {
    auto last = std::make_shared<Clock::time_point>();
    auto to = reply;
    Progress p;
    p.cancelled = [this] { return cancelled(); };
    p.report = [last, to](uint64_t done, uint64_t total, uint64_t bytes, uint64_t total_bytes, uint64_t failed) {
      if (Clock::now() - *last < kProgressEvery) return;
      *last = Clock::now();
      json j = {
          {"progress",
           {{"done", done}, {"total", total}, {"bytes", bytes}, {"total_bytes", total_bytes}, {"failed", failed}}}};
      to->text(0, to_text(j), true);
    };
    return p;
  }
};

Admin::Admin(Parts parts) : p_(parts) {}

Admin::~Admin() {
  stop();
}

void Admin::stop() {
  stopping_ = true;
  long_.stop();
  quick_.stop();
}

const Admin::OpEntry* Admin::find_op(const std::string& name) {
  static const std::map<std::string, OpEntry> kOps = {
      {"ping", {&Admin::ping, false, true}},       {"status", {&Admin::status, false, true}},
      {"nodes", {&Admin::nodes, false, false}},    {"format", {&Admin::format, true, false}},
      {"mount", {&Admin::mount, true, false}},     {"umount", {&Admin::umount, true, false}},
      {"refresh", {&Admin::refresh, true, false}}, {"warm", {&Admin::warm, false, false}},
      {"evict", {&Admin::evict, true, false}},     {"unpin", {&Admin::unpin, true, false}},
      {"check", {&Admin::check, true, false}},     {"shutdown", {&Admin::shutdown, true, false}}};
  auto it = kOps.find(name);
  return it == kOps.end() ? nullptr : &it->second;
}

bool Admin::allowed(const Peer& peer) const {
  if (peer.uid == 0 || peer.uid == ::geteuid()) return true;
  if (p_.config.admin_group.empty()) return false;
  struct group entry, *found = nullptr;
  std::string buffer(65536, '\0');
  ::getgrnam_r(p_.config.admin_group.c_str(), &entry, buffer.data(), buffer.size(), &found);
  return found && peer.in_group(found->gr_gid);
}

static void send_error(Replier& reply, const Error& e) {
  reply.text(to_errno(e), to_text({{"error", e.message}}));
}

void Admin::handle(IncomingRequest r) {
  json args = json::parse(r.payload, nullptr, false);
  if (!args.is_object() || !args.contains("op") || !args["op"].is_string())
    return send_error(*r.reply, make_error(EINVAL, "the request is not JSON with an \"op\""));
  std::string name = args["op"].get<std::string>();
  const OpEntry* op = find_op(name);
  if (!op)
    return send_error(
        *r.reply, make_error(ENOSYS, fmt::format("larderd {} knows no \"{}\"; use a larder of its version", kVersion,
                                                 shown(name))));
  if (op->privileged && !allowed(r.peer))
    return send_error(
        *r.reply,
        make_error(EPERM, fmt::format("{} is for root, the daemon's own user and the group admin_group", name)));
  auto call = std::make_shared<Call>(Call{std::move(args), r.peer, r.reply, &stopping_});
  ThreadPool& workers = op->quick ? quick_ : long_;
  if (!workers.run([this, call, op] { run(*call, *op); }))
    send_error(*r.reply, make_error(EAGAIN, "larderd is busy with other requests; try again"));
}

void Admin::run(const Call& call, const OpEntry& op) {
  if (!op.quick) ++running_;
  Answer answer = (this->*op.op)(call);
  if (answer)
    call.reply->text(0, to_text(*answer));
  else
    send_error(*call.reply, answer.error());
  if (!op.quick) --running_;
}

// ---- questions ----------------------------------------------------------------------------------

// redis://user:password@host without the password.
static std::string without_password(const std::string& url) {
  size_t start = url.find("://"), at = url.rfind('@');
  if (start == url.npos || at == url.npos || at < start) return url;
  return url.substr(0, start + 3) + "***" + url.substr(at);
}

static double seconds_since(Clock::time_point t) {
  return std::chrono::duration<double>(Clock::now() - t).count();
}

Admin::Answer Admin::ping(const Call&) {
  return json{{"version", kVersion},
              {"pid", ::getpid()},
              {"uptime_s", seconds_since(started_)},
              {"private", p_.config.is_private}};
}

json Admin::mounts_status() {
  json list = json::array();
  for (const Mount& m : p_.datasets.mounts()) {
    std::shared_ptr<CatalogVersion> v = m.dataset->version();
    if (!v) continue;
    const CatalogHeader& h = *v->catalog().header;
    ObjectCache::DatasetUsage used = p_.cache.usage_of(*m.dataset);
    double ratio = h.file_count == 0 ? 0 : std::min(1.0, used.objects / static_cast<double>(h.file_count));
    list.push_back({{"path", m.path},
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
                    {"fill", {{"state", p_.filler.state(*m.dataset)}, {"done", used.files}, {"total", h.file_count}}}});
  }
  return list;
}

// Mounts of the configuration or of the last run that cannot be made now.
json Admin::waiting_status() {
  json list = json::array();
  for (const WaitingMount& w : p_.datasets.waiting())
    list.push_back(
        {{"path", w.request.path}, {"dataset", w.request.name}, {"source", w.request.source}, {"trouble", w.trouble}});
  return list;
}

json Admin::store_status() {
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

Admin::Answer Admin::status(const Call&) {
  CacheUsage c = p_.cache.usage();
  StatTotals s = p_.publisher.stats();
  json mounts = mounts_status(), datasets = json::array();
  for (auto& d : p_.datasets.all()) {
    if (d->def.name.empty() || datasets.size() >= kMaxDatasets) continue;
    datasets.push_back({{"name", d->def.name},
                        {"source", d->def.source},
                        {"mounted", d->version() != nullptr},
                        {"trouble", d->trouble()}});
  }
  return json{{"version", kVersion},
              {"pid", ::getpid()},
              {"uptime_s", seconds_since(started_)},
              {"private", p_.config.is_private},
              {"socket", p_.config.socket},
              {"cache_dir", p_.config.cache_dir},
              {"meta", without_password(p_.config.meta)},
              {"cache",
               {{"size", c.size},
                {"used", c.used},
                {"pinned_by_readers", c.pinned_by_readers},
                {"staging", c.staging},
                {"files", c.files}}},
              {"clients", {{"connections", p_.server.connections()}, {"present", p_.dir.program_present()}}},
              {"reads",
               {{"warm_opens", s.warm_opens},
                {"warm_bytes", s.warm_bytes},
                {"miss_opens", s.miss_opens},
                {"stats", s.stats},
                {"lists", s.lists},
                {"errors", s.errors}}},
              {"store", store_status()},
              {"mounts", mounts},
              {"waiting_mounts", waiting_status()},
              {"datasets", datasets}};
}

// ---- datasets -----------------------------------------------------------------------------------

Admin::Answer Admin::format(const Call& call) {
  Result<std::string> name = call.text("name"), source = call.text("source"), group = call.text("group", false);
  Result<StoreOptions> options = call.texts("options");
  if (!name) return name.error();
  if (!source) return source.error();
  if (!group) return group.error();
  if (!options) return options.error();
  Result<bool> restore = call.flag("restore", false);
  if (!restore) return restore.error();
  if (*restore) {
    Result<VersionInfo> info = p_.datasets.restore(*name, *source);
    if (!info) return info.error();
    return json{{"name", *name}, {"version", info->version}, {"objects", info->objects}, {"bytes", info->bytes}};
  }
  Result<DatasetDef> def = p_.datasets.format(*name, *source, *options, *group);
  if (!def) return def.error();
  return json{{"name", def->name}, {"id", fmt::format("{:016x}", def->id)}};
}

// {"nodes": [{"dataset","node","version","files","bytes","age_s"}...]}: of one dataset, or of all.
Admin::Answer Admin::nodes(const Call& call) {
  Result<std::string> name = call.text("name", false);
  if (!name) return name.error();
  json out = json::array();
  size_t bytes = 0;
  auto add = [&](const std::string& dataset, const NodeInfo& n) {
    if ((bytes += dataset.size() + n.node.size() + 120) > kMaxNodesBytes) return;
    out.push_back({{"dataset", dataset},
                   {"node", n.node},
                   {"version", n.version},
                   {"files", n.files},
                   {"bytes", n.bytes},
                   {"age_s", n.age_s}});
  };
  if (Status s = list_nodes(p_.meta, *name, add); !s) return s.error();
  return json{{"nodes", out}};
}

static Result<MountRequest> mount_request(const std::string& path, const std::string& name, const std::string& source) {
  if (name.empty() == source.empty()) return make_error(EINVAL, "give either \"name\" or \"source\"");
  MountRequest r;
  r.path = path;
  r.name = name;
  r.source = source;
  return r;
}

template <typename T>
static Status set_if_given(const std::string& text, Result<T> (*parse)(std::string_view), std::optional<T>& to) {
  if (text.empty()) return {};
  Result<T> parsed = parse(text);
  if (!parsed) return parsed.error();
  to = *parsed;
  return {};
}

Admin::Answer Admin::mount(const Call& call) {
  Result<std::string> path = call.text("path"), name = call.text("name", false), source = call.text("source", false);
  Result<std::string> fallback = call.text("fallback", false), fill = call.text("fill", false);
  Result<std::string> policy = call.text("policy", false), quota = call.text("quota", false);
  Result<StoreOptions> options = call.texts("options"), environment = call.texts("environment");
  Result<bool> refresh = call.flag("refresh", false), persist = call.flag("persist", !p_.config.is_private);
  for (const Result<std::string>* r : {&path, &name, &source, &fallback, &fill, &policy, &quota})
    if (!*r) return r->error();
  if (!options) return options.error();
  if (!environment) return environment.error();
  if (!refresh) return refresh.error();
  if (!persist) return persist.error();
  Result<MountRequest> request = mount_request(*path, *name, *source);
  if (!request) return request.error();
  request->options = *options;
  request->environment = *environment;
  request->asked = call.asked();
  request->refresh = *refresh;
  request->persist = *persist;
  std::optional<Fallback> what_if_away;
  std::optional<SizeSpec> most;
  for (const Status& s :
       {set_if_given(*fallback, parse_fallback, what_if_away), set_if_given(*fill, parse_fill, request->fill),
        set_if_given(*policy, parse_policy, request->policy), set_if_given(*quota, parse_quota, most)})
    if (!s) return s.error();
  request->fallback = what_if_away.value_or(request->fallback);
  if (most) request->quota = most->of(p_.cache.limits().cache_size);
  Result<MountResult> m = p_.datasets.mount(*request, call.progress());
  if (!m) return m.error();
  return json{{"name", m->name},
              {"path", m->path},
              {"version", m->info.version},
              {"objects", m->info.objects},
              {"bytes", m->info.bytes},
              {"skipped", m->info.skipped},
              {"warnings", m->warnings}};
}

Admin::Answer Admin::umount(const Call& call) {
  Result<std::string> path = call.text("path");
  if (!path) return path.error();
  if (Status s = p_.datasets.umount(*path); !s) return s.error();
  return json::object();
}

Admin::Answer Admin::refresh(const Call& call) {
  Result<std::string> name = call.text("name");
  if (!name) return name.error();
  Result<RefreshResult> r = p_.datasets.refresh(*name, call.progress());
  if (!r) return r.error();
  json examples = json::array();
  size_t bytes = 0;
  for (const std::string& key : r->skipped.examples) {
    if (examples.size() >= kMaxListed || (bytes += key.size()) > 64 * 1024) break;
    examples.push_back(key);
  }
  return json{{"version", r->info.version},  {"objects", r->info.objects}, {"bytes", r->info.bytes},
              {"added", r->added},           {"changed", r->changed},      {"removed", r->removed},
              {"skipped", r->skipped.count}, {"examples", examples}};
}

// ---- files --------------------------------------------------------------------------------------

static Result<std::vector<std::string>> paths_of(const json& args) {
  std::vector<std::string> paths;
  if (auto it = args.find("path"); it != args.end() && it->is_string()) paths.push_back(it->get<std::string>());
  if (auto it = args.find("paths"); it != args.end() && it->is_array())
    for (const json& p : *it)
      if (p.is_string()) paths.push_back(p.get<std::string>());
  if (paths.empty()) return make_error(EINVAL, "the request has no \"path\" or \"paths\"");
  return paths;
}

struct Place {
  Mount mount;
  std::shared_ptr<CatalogVersion> version;
  std::string rest;
  uint32_t entry = kNoEntry;
};

// A file or folder by its absolute path.
static Result<Place> place_of(const Datasets& datasets, const std::string& path) {
  Result<std::string> normal =
      normal_mount_path(path);  // long ones are refused below: names in a dataset may be longer
  std::string absolute = normal ? *normal : path;
  while (absolute.size() > 1 && absolute.back() == '/')
    absolute.pop_back();
  Place place;
  std::tie(place.mount, place.rest) = datasets.at_path(absolute);
  if (!place.mount.dataset)
    return make_error(ENOENT, fmt::format("{} is in no mounted dataset; larder status lists the mounts", shown(path)));
  place.version = place.mount.dataset->version();
  if (place.version) place.entry = place.version->find(place.rest);
  if (place.entry == kNoEntry)
    return make_error(ENOENT, fmt::format("there is no {} in the dataset at {}", shown(path), place.mount.path));
  return place;
}

Admin::Answer Admin::run_warm(const std::shared_ptr<WarmJob>& job, const Call& call) {
  Progress progress = call.progress();
  p_.flights.add_source(job);
  WarmCounts c;
  for (bool done = false; !done;) {
    std::tie(c, done) = job->wait(kProgressEvery);
    progress.report(c.done, c.files, c.done_bytes, c.bytes, c.failed);
    if (call.cancelled()) job->cancel();
    p_.flights.kick();
  }
  p_.flights.remove_source(job);
  json errors = json::array();
  for (auto& [path, error] : c.errors)
    errors.push_back({{"path", path}, {"error", error}});
  return json{{"files", c.files},     {"bytes", c.bytes},   {"fetched", c.fetched},
              {"already", c.already}, {"failed", c.failed}, {"errors", errors}};
}

// All of a request, dataset by dataset. An operator's business, unlike warming: it takes room from others for good.
Status Admin::pin(const std::vector<std::string>& paths, const Call& call) {
  if (!allowed(call.peer))
    return make_error(EPERM, "to pin is for root, the daemon's own user and the group admin_group");
  std::map<uint64_t, std::pair<std::shared_ptr<Dataset>, std::vector<std::string>>> pins;
  for (const std::string& path : paths) {
    Result<Place> place = place_of(p_.datasets, path);
    if (!place) return place.error();
    auto& [dataset, rests] = pins[place->mount.dataset->id()];
    dataset = place->mount.dataset;
    rests.push_back(place->rest);
  }
  for (auto& [id, pin] : pins)
    if (Status s = p_.cache.pin(*pin.first, pin.second); !s) return s;
  return {};
}

Admin::Answer Admin::unpin(const Call& call) {
  Result<std::vector<std::string>> paths = paths_of(call.args);
  if (!paths) return paths.error();
  size_t gone = 0;
  for (const std::string& path : *paths) {
    Result<std::string> normal = normal_mount_path(path);
    auto [mount, rest] = p_.datasets.at_path(normal ? *normal : path);
    if (!mount.dataset)
      return make_error(ENOENT,
                        fmt::format("{} is in no mounted dataset; larder status lists the mounts", shown(path)));
    Result<size_t> n = p_.cache.unpin(*mount.dataset, rest);
    if (!n) return make_error(n.error().code, fmt::format("{}: {}", shown(path), n.error().message));
    gone += *n;
  }
  return json{{"pins", gone}};
}

Admin::Answer Admin::warm(const Call& call) {
  Result<std::vector<std::string>> paths = paths_of(call.args);
  if (!paths) return paths.error();
  Result<bool> pinned = call.flag("pin", false);
  if (!pinned) return pinned.error();
  uint64_t jobs = p_.config.connections;
  if (auto it = call.args.find("jobs"); it != call.args.end() && !it->is_null()) {
    if (!it->is_number_unsigned() || it->get<uint64_t>() == 0)
      return make_error(EINVAL, "\"jobs\" is not a number above 0");
    jobs = std::min<uint64_t>(jobs, it->get<uint64_t>());
  }
  auto job = std::make_shared<WarmJob>(static_cast<uint32_t>(jobs));
  for (const std::string& path : *paths) {
    Result<Place> place = place_of(p_.datasets, path);
    if (!place) return place.error();
    if (!may_read(call.peer, place->mount.dataset->group))
      return make_error(EACCES, fmt::format("{} is restricted to a group", shown(path)));
    place->mount.dataset->used_now();
    job->add(place->mount.dataset, place->version, place->entry, place->mount.path);
  }
  if (*pinned)
    if (Status s = pin(*paths, call); !s) return s.error();
  return run_warm(job, call);
}

Admin::Answer Admin::evict(const Call& call) {
  Result<std::vector<std::string>> paths = paths_of(call.args);
  if (!paths) return paths.error();
  EvictCounts sum;
  for (const std::string& path : *paths) {
    Result<Place> place = place_of(p_.datasets, path);
    if (!place) return place.error();
    EvictCounts c = p_.cache.evict(*place->mount.dataset, place->rest);
    sum.files += c.files;
    sum.bytes += c.bytes;
    sum.busy += c.busy;
    sum.pinned += c.pinned;
  }
  return json{{"files", sum.files}, {"bytes", sum.bytes}, {"busy", sum.busy}, {"pinned", sum.pinned}};
}

Status Admin::check_mount(const Mount& m, const std::string& path, CheckCounts& counts, const Call& call) {
  Progress progress = call.progress();
  return verify(p_.cache, m.dataset, path, counts, [&](const CheckCounts& c) {
    progress.report(c.files, 0, c.bytes, 0, c.corrupt.size());
    return !call.cancelled();
  });
}

// The files that were dropped, once more from the store.
Result<uint64_t> Admin::fetch_again(const CheckCounts& counts, const Call& call) {
  auto job = std::make_shared<WarmJob>(p_.config.connections);
  for (auto& [dataset, path] : counts.corrupt) {
    std::shared_ptr<CatalogVersion> v = dataset->version();
    uint32_t entry = v ? v->find_file(path) : kNoEntry;
    if (entry != kNoEntry) job->add(dataset, v, entry, "");
  }
  Answer warmed = run_warm(job, call);
  if (!warmed) return warmed.error();
  return (*warmed)["fetched"].get<uint64_t>() + (*warmed)["already"].get<uint64_t>();
}

Admin::Answer Admin::check(const Call& call) {
  Result<bool> repair = call.flag("repair", false);
  Result<std::string> path = call.text("path", false);
  if (!repair) return repair.error();
  if (!path) return path.error();
  CheckCounts counts;
  std::vector<std::pair<Mount, std::string>> todo;
  if (path->empty()) {
    for (const Mount& m : p_.datasets.mounts())
      todo.emplace_back(m, "");
  } else {
    Result<Place> place = place_of(p_.datasets, *path);
    if (!place) return place.error();
    todo.emplace_back(place->mount, place->rest);
  }
  json corrupt = json::array();
  for (auto& [mount, rest] : todo) {
    size_t before = counts.corrupt.size();
    if (Status s = check_mount(mount, rest, counts, call); !s) return s.error();
    for (size_t i = before; i < counts.corrupt.size() && corrupt.size() < kMaxListed; ++i)
      corrupt.push_back(mount.path + "/" + counts.corrupt[i].second);
  }
  uint64_t repaired = 0;
  if (*repair && !counts.corrupt.empty()) {
    Result<uint64_t> again = fetch_again(counts, call);
    if (!again) return again.error();
    repaired = *again;
  }
  return json{{"files", counts.files}, {"bytes", counts.bytes}, {"corrupt", corrupt}, {"repaired", repaired}};
}

Admin::Answer Admin::shutdown(const Call& call) {
  call.reply->text(0, "{}");
  // The reply leaves before the server does: it was posted first.
  p_.server.stop();
  return json::object();
}

}  // namespace larder
