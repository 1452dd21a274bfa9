#include "cached/cli/commands.h"

#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <thread>

#include "cached/base/text.h"
#include "cached/base/units.h"
#include "cached/cli/json_read.h"
#include "cached/cli/mount_spec.h"
#include "cached/cli/private_daemon.h"
#include "cached/cli/progress.h"
#include "cached/cli/report.h"
#include "cached/config/config.h"
#include "cached/store/open/source_meaning.h"

namespace larder::cli {
namespace {

// As many paths a request as surely fit a packet.
constexpr size_t kPathBytesPerRequest = 64 * 1024;

std::string absolute_path(const std::string& path) {
  std::string normal = std::filesystem::absolute(path).lexically_normal().string();
  while (normal.size() > 1 && normal.back() == '/')
    normal.pop_back();
  return normal;
}

Result<std::vector<std::string>> read_list(const std::string& name) {
  std::ifstream file;
  if (name != "-") {
    file.open(name);
    if (!file) return make_error(errno, fmt::format("cannot read the list '{}': {}", name, strerror(errno)));
  }
  std::istream& in = name == "-" ? std::cin : file;
  std::vector<std::string> paths;
  for (std::string line; std::getline(in, line);)
    if (!line.empty()) paths.push_back(line);
  if (paths.empty()) return make_error(EINVAL, fmt::format("the list '{}' has no paths: write one per line", name));
  return paths;
}

struct WarmTotals {
  uint64_t files = 0, bytes = 0, fetched = 0, already = 0, failed = 0;
  void add(const Json& r) {
    files += number(r, "files");
    bytes += number(r, "bytes");
    fetched += number(r, "fetched");
    already += number(r, "already");
    failed += number(r, "failed");
  }
};

std::vector<std::vector<std::string>> in_batches(const std::vector<std::string>& paths) {
  std::vector<std::vector<std::string>> batches;
  size_t bytes = kPathBytesPerRequest;
  for (const std::string& p : paths) {
    if (bytes + p.size() + 8 > kPathBytesPerRequest) {
      batches.emplace_back();
      bytes = 0;
    }
    batches.back().push_back(p);
    bytes += p.size() + 8;
  }
  return batches;
}

void report_warm_errors(const Json& result) {
  for (const Json& e : list(result, "errors"))
    warn(text(e, "path") + ": " + text(e, "error"));
}

int print_warm(const WarmTotals& t) {
  say("{} files, {}: {} fetched, {} were cached, {} failed\n", format_count(t.files),
      format_bytes(static_cast<double>(t.bytes)), format_count(t.fetched), format_count(t.already),
      format_count(t.failed));
  return t.failed > 0 ? kExitFailed : kExitOk;
}

// EEXIST, with what is there already: the daemon's status knows.
Error explain_taken(const Client& client, const MountArgs& args, const Error& error) {
  auto status = client.request({{"op", "status"}});
  if (!status) return error;
  for (const Json& m : list(*status, "mounts"))
    if (text(m, "path") == args.path)
      return make_error(
          EEXIST, fmt::format("'{}' is already mounted from {} (dataset {}), not from {}: choose another path, or "
                              "`larder umount {}` first",
                              args.path, text(m, "source"), text(m, "dataset"), args.source, args.path));
  return error;
}

// Whether a daemon still answers, asked for up to ten seconds: a daemon in order ends its flights first.
bool went_away(const Client& client) {
  for (int i = 0; i < 100; ++i) {
    auto there = client.answers();
    if (there && !*there) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return false;
}

}  // namespace

std::function<void(const Json&)> draw(Progress& progress) {
  return [&progress](const Json& p) {
    progress.update(
        {number(p, "done"), number(p, "total"), number(p, "bytes"), number(p, "total_bytes"), number(p, "failed")});
  };
}

int format_dataset(const Client& client, const FormatArgs& args) {
  if (!valid_name(args.name))
    return fail(make_error(
        EINVAL, fmt::format("dataset name '{}' is not allowed: use up to 63 letters, digits, '.', '_' and '-', "
                            "a letter or digit first",
                            args.name)));
  Json request = {{"op", "format"}, {"name", args.name}, {"source", args.source}, {"options", args.options}};
  if (!args.group.empty()) request["group"] = args.group;
  if (args.restore) request["restore"] = true;
  auto reply = client.request(request);
  if (!reply) return fail(reply.error());
  if (args.restore)
    say("{} published again as version {}: {} files, {}\n", args.name, number(*reply, "version"),
        format_count(number(*reply, "objects")), format_bytes(static_cast<double>(number(*reply, "bytes"))));
  else
    say("dataset {} is {}\n", args.name, args.source);
  return kExitOk;
}

// A listing that began after this process did shows all that who started it may expect.
static const auto kStarted = std::chrono::steady_clock::now();

static uint64_t age_ms() {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - kStarted).count());
}

static Json meaning_environment() {
  Json out = {{"HOME", ""}};
  const Environment env = process_environment();
  for (size_t i = 0; i < kMeaningVariableCount; ++i) {
    const std::string name = kMeaningVariables[i];
    if (auto value = env(name.c_str())) out[name] = name.ends_with("_TOKEN") ? "set" : *value;
  }
  return out;
}

Result<Json> request_mount(const Client& client, const MountArgs& args, bool persist) {
  bool name = args.source.find("://") == std::string::npos;
  Json request = {{"op", "mount"}, {"path", args.path}, {"refresh", args.refresh}, {"persist", persist}};
  request[name ? "name" : "source"] = args.source;
  if (args.offline) request["offline"] = true;
  request["age_ms"] = age_ms();
  if (args.own_environment) request["environment"] = meaning_environment();
  if (!name) request["options"] = args.options;
  if (!args.fill.empty()) request["fill"] = args.fill;
  if (!args.fallback.empty()) request["fallback"] = args.fallback;
  if (!args.policy.empty()) request["policy"] = args.policy;
  if (!args.quota.empty()) request["quota"] = args.quota;
  Progress progress("listing " + printable(args.source, kWhole));
  auto reply = client.request(request, draw(progress));
  progress.finish();
  if (!reply && reply.error().code == EEXIST) return explain_taken(client, args, reply.error());
  return reply;
}

void report_skipped(const Json& result, const std::string& source) {
  uint64_t skipped = number(result, "skipped");
  for (const Json& w : list(result, "warnings"))
    if (w.is_string()) warn(w.get<std::string>());
  if (skipped > 0 && list(result, "warnings").empty())
    warn(
        fmt::format("{}: {} objects have keys that no path can name and are not shown", source, format_count(skipped)));
}

int mount_dataset(const Client& client, const MountArgs& args) {
  auto path = normal_mount_path(args.path);
  if (!path) return fail(path.error());
  MountArgs normal = args;
  normal.path = *path;
  auto reply = request_mount(client, normal, true);
  if (!reply) return fail(reply.error());
  report_skipped(*reply, args.source);
  say("{} at {}: {} files, {}\n", args.source, *path, format_count(number(*reply, "objects")),
      format_bytes(static_cast<double>(number(*reply, "bytes"))));
  return kExitOk;
}

int umount_path(const Client& client, const std::string& path) {
  auto reply = client.request({{"op", "umount"}, {"path", absolute_path(path)}});
  return reply ? kExitOk : fail(reply.error());
}

int refresh_dataset(const Client& client, const std::string& name, bool offline) {
  Progress progress("listing " + printable(name, kWhole));
  auto reply = client.request({{"op", "refresh"}, {"name", name}, {"offline", offline}}, draw(progress));
  progress.finish();
  if (!reply) return fail(reply.error());
  const Json& r = *reply;
  say("{} version {}: {} files, {}; {} added, {} changed, {} removed\n", name, number(r, "version"),
      format_count(number(r, "objects")), format_bytes(static_cast<double>(number(r, "bytes"))),
      format_count(number(r, "added")), format_count(number(r, "changed")), format_count(number(r, "removed")));
  for (const Json& w : list(r, "warnings"))
    if (w.is_string()) warn(w.get<std::string>());
  if (uint64_t skipped = number(r, "skipped"); skipped > 0) {
    std::string examples;
    for (const Json& e : list(r, "examples"))
      if (e.is_string()) examples += (examples.empty() ? ", such as '" : "', '") + e.get<std::string>();
    warn(fmt::format("{} objects have keys that no path can name and are not shown{}", format_count(skipped),
                     examples.empty() ? "" : examples + "'"));
  }
  return kExitOk;
}

static int stop_warming(const Client& client, uint64_t job) {
  auto reply = client.request({{"op", "warm_stop"}, {"job", job}});
  return reply ? kExitOk : fail(reply.error());
}

int warm_paths(const Client& client, const WarmArgs& args) {
  if (args.stop > 0) return stop_warming(client, args.stop);
  std::vector<std::string> paths = args.paths;
  if (!args.list.empty()) {
    auto listed = read_list(args.list);
    if (!listed) return fail(listed.error());
    paths.insert(paths.end(), listed->begin(), listed->end());
  }
  if (paths.empty()) return fail(make_error(EINVAL, "nothing to warm: give a PATH, or --list FILE"), kExitUsage);
  for (std::string& p : paths)
    p = absolute_path(p);
  WarmTotals totals;
  for (const auto& batch : in_batches(paths)) {
    Progress progress("warming");
    Json request = {{"op", "warm"}, {"paths", batch}};
    if (args.jobs > 0) request["jobs"] = args.jobs;
    if (args.pin) request["pin"] = true;
    if (!args.wait) request["wait"] = false;
    auto reply = client.request(request, draw(progress));
    progress.finish();
    if (!reply) return fail(reply.error());
    if (!args.wait) {
      say("warm job {}\n", number(*reply, "job"));
      continue;
    }
    report_warm_errors(*reply);
    totals.add(*reply);
  }
  return args.wait ? print_warm(totals) : kExitOk;
}

int unpin_paths(const Client& client, const std::vector<std::string>& paths) {
  uint64_t pins = 0;
  for (const std::string& p : paths) {
    auto reply = client.request({{"op", "unpin"}, {"path", absolute_path(p)}});
    if (!reply) return fail(reply.error());
    if (number(*reply, "pins") == 0) warn(printable(p, kWhole) + " is not pinned");
    pins += number(*reply, "pins");
  }
  say("{} pins removed\n", format_count(pins));
  return pins > 0 ? kExitOk : kExitFailed;
}

int evict_paths(const Client& client, const std::vector<std::string>& paths) {
  uint64_t files = 0, bytes = 0, busy = 0, pinned = 0;
  for (const std::string& p : paths) {
    auto reply = client.request({{"op", "evict"}, {"path", absolute_path(p)}});
    if (!reply) return fail(reply.error());
    files += number(*reply, "files");
    bytes += number(*reply, "bytes");
    busy += number(*reply, "busy");
    pinned += number(*reply, "pinned");
  }
  say("{} files, {} evicted; {} are in use and stay\n", format_count(files), format_bytes(static_cast<double>(bytes)),
      format_count(busy));
  if (pinned > 0) warn(fmt::format("{} files are pinned and stay; larder unpin lets them go", format_count(pinned)));
  return kExitOk;
}

int check_cache(const Client& client, bool repair, const std::string& path) {
  Json request = {{"op", "check"}, {"repair", repair}};
  if (!path.empty()) request["path"] = absolute_path(path);
  Progress progress("checking");
  auto reply = client.request(request, draw(progress));
  progress.finish();
  if (!reply) return fail(reply.error());
  const Json& corrupt = list(*reply, "corrupt");
  for (const Json& c : corrupt)
    if (c.is_string()) say("corrupt: {}\n", printable(c.get<std::string>(), kWhole));
  uint64_t repaired = number(*reply, "repaired");
  say("{} files, {} checked: {} corrupt, {} repaired\n", format_count(number(*reply, "files")),
      format_bytes(static_cast<double>(number(*reply, "bytes"))), format_count(corrupt.size()), format_count(repaired));
  return corrupt.size() > repaired ? kExitFailed : kExitOk;
}

int shutdown_daemon(const Client& client) {
  auto idle = find_daemon(client);
  if (idle && *idle == Found::kIdleKeeper && client.ask_keeper(kEndKeeper, {})) return kExitOk;
  auto reply = client.request({{"op", "shutdown"}});
  if (!reply) return fail(reply.error());
  if (went_away(client)) return kExitOk;
  return fail(make_error(
      EBUSY, fmt::format("larderd at '{}' acknowledged the shutdown but still answers: see its log", client.socket())));
}

}  // namespace larder::cli
