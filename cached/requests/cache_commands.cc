#include "cached/requests/cache_commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "cached/base/files.h"
#include "cached/requests/may_read.h"

namespace larder {

using nlohmann::json;

static Error not_mounted(const std::string& path) {
  return make_error(ENOENT, fmt::format("{} is in no mounted dataset; larder status lists the mounts", shown(path)));
}

Result<CacheCommands::Place> CacheCommands::place_of(const std::string& path) const {
  // A path that is too long for a mount may still be one in a dataset: it is looked up as it is.
  Result<std::string> normal = normal_mount_path(path);
  std::string absolute = normal ? *normal : path;
  while (absolute.size() > 1 && absolute.back() == '/')
    absolute.pop_back();
  Place place;
  std::tie(place.mount, place.rest) = p_.datasets.at_path(absolute);
  if (!place.mount.dataset) return not_mounted(path);
  place.version = place.mount.dataset->version();
  if (place.version) place.entry = place.version->find(place.rest);
  if (place.entry == kNoEntry)
    return make_error(ENOENT, fmt::format("there is no {} in the dataset at {}", shown(path), place.mount.path));
  return place;
}

// ---- warm ----------------------------------------------------------------------------------------

// Of a check: until all is done, or the call is cancelled and what is under way has ended.
WarmCounts CacheCommands::run(const std::shared_ptr<WarmJob>& job, const AdminCall& call) {
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
  return c;
}

// All of a request or nothing of a dataset, dataset by dataset.
Status CacheCommands::pin(const std::vector<std::string>& paths, const AdminCall& call) {
  if (!call.may_administer())
    return make_error(EPERM, "pinning requires root, the daemon's user or a member of admin_group");
  std::map<uint64_t, std::pair<std::shared_ptr<Dataset>, std::vector<std::string>>> pins;
  for (const std::string& path : paths) {
    Result<Place> place = place_of(path);
    if (!place) return place.error();
    auto& [dataset, rests] = pins[place->mount.dataset->id()];
    dataset = place->mount.dataset;
    rests.push_back(place->rest);
  }
  for (auto& [id, pin] : pins)
    if (Status s = p_.cache.pin(*pin.first, pin.second); !s) return s;
  return {};
}

AdminAnswer CacheCommands::warm(const AdminCall& call) {
  Arguments in = call.arguments();
  const std::vector<std::string> paths = in.paths();
  const bool pinned = in.flag("pin", false), waits = in.flag("wait", true);
  const uint64_t jobs = std::min<uint64_t>(p_.config.connections, in.number("jobs", p_.config.connections));
  if (!in.status()) return in.status().error();
  auto job = std::make_shared<WarmJob>(static_cast<uint32_t>(jobs));
  for (const std::string& path : paths) {
    Result<Place> place = place_of(path);
    if (!place) return place.error();
    if (!may_read(call.peer(), place->mount.dataset->group))
      return make_error(EACCES, fmt::format("{} is restricted to a group", shown(path)));
    place->mount.dataset->used_now();
    job->add(place->mount.dataset, place->version, place->entry, place->mount.path);
  }
  if (pinned)
    if (Status s = pin(paths, call); !s) return s.error();
  Result<uint64_t> number = p_.warm_jobs.add(std::move(job), paths, call, waits);
  if (!number) return number.error();
  if (waits) call.defer();
  return json{{"job", *number}};
}

AdminAnswer CacheCommands::warm_stop(const AdminCall& call) {
  Arguments in = call.arguments();
  const uint64_t number = in.number("job", 0);
  if (!in.status()) return in.status().error();
  if (Status s = p_.warm_jobs.end(number, call.peer(), call.may_administer()); !s) return s.error();
  return json::object();
}

// ---- unpin, evict --------------------------------------------------------------------------------

AdminAnswer CacheCommands::unpin(const AdminCall& call) {
  Arguments in = call.arguments();
  const std::vector<std::string> paths = in.paths();
  if (!in.status()) return in.status().error();
  size_t gone = 0;
  for (const std::string& path : paths) {
    // The file may have gone from the dataset: its pin has not.
    Result<std::string> normal = normal_mount_path(path);
    auto [mount, rest] = p_.datasets.at_path(normal ? *normal : path);
    if (!mount.dataset) return not_mounted(path);
    Result<size_t> n = p_.cache.unpin(*mount.dataset, rest);
    if (!n) return make_error(n.error().code, fmt::format("{}: {}", shown(path), n.error().message));
    gone += *n;
  }
  return json{{"pins", gone}};
}

AdminAnswer CacheCommands::evict(const AdminCall& call) {
  Arguments in = call.arguments();
  const std::vector<std::string> paths = in.paths();
  if (!in.status()) return in.status().error();
  EvictCounts sum;
  for (const std::string& path : paths) {
    Result<Place> place = place_of(path);
    if (!place) return place.error();
    EvictCounts c = p_.cache.evict(*place->mount.dataset, place->rest);
    sum.files += c.files;
    sum.bytes += c.bytes;
    sum.busy += c.busy;
    sum.pinned += c.pinned;
  }
  return json{{"files", sum.files}, {"bytes", sum.bytes}, {"busy", sum.busy}, {"pinned", sum.pinned}};
}

// ---- check ---------------------------------------------------------------------------------------

// One path, or every mount.
Result<std::vector<CacheCommands::Place>> CacheCommands::to_check(const std::string& path) const {
  std::vector<Place> places;
  if (!path.empty()) {
    Result<Place> place = place_of(path);
    if (!place) return place.error();
    places.push_back(std::move(*place));
    return places;
  }
  for (const Mount& m : p_.datasets.mounts())
    places.push_back({m, nullptr, "", kNoEntry});
  return places;
}

Status CacheCommands::check_place(const Place& place, CheckCounts& counts, const AdminCall& call) {
  Progress progress = call.progress();
  return verify(p_.cache, place.mount.dataset, place.rest, counts, [&](const CheckCounts& c) {
    progress.report(c.files, 0, c.bytes, 0, c.corrupt.size());
    return !call.cancelled();
  });
}

// The files that were dropped, from the store again; returns how many are there now.
uint64_t CacheCommands::fetch_again(const CheckCounts& counts, const AdminCall& call) {
  auto job = std::make_shared<WarmJob>(p_.config.connections);
  for (auto& [dataset, path] : counts.corrupt) {
    std::shared_ptr<CatalogVersion> v = dataset->version();
    uint32_t entry = v ? v->find_file(path) : kNoEntry;
    if (entry != kNoEntry) job->add(dataset, v, entry, "");
  }
  const WarmCounts c = run(job, call);
  return c.fetched + c.already;
}

AdminAnswer CacheCommands::check(const AdminCall& call) {
  Arguments in = call.arguments();
  const bool repair = in.flag("repair", false);
  const std::string path = in.text_or_empty("path");
  if (!in.status()) return in.status().error();
  Result<std::vector<Place>> places = to_check(path);
  if (!places) return places.error();
  CheckCounts counts;
  json corrupt = json::array();
  for (const Place& place : *places) {
    size_t before = counts.corrupt.size();
    if (Status s = check_place(place, counts, call); !s) return s.error();
    for (size_t i = before; i < counts.corrupt.size() && corrupt.size() < kMaxListed; ++i)
      corrupt.push_back(place.mount.path + "/" + counts.corrupt[i].second);
  }
  const uint64_t repaired = repair && !counts.corrupt.empty() ? fetch_again(counts, call) : 0;
  return json{{"files", counts.files}, {"bytes", counts.bytes}, {"corrupt", corrupt}, {"repaired", repaired}};
}

}  // namespace larder
