#include "cached/cli/sync.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "cached/base/mutex.h"
#include "cached/base/text.h"
#include "cached/base/units.h"
#include "cached/cli/progress.h"
#include "cached/cli/report.h"
#include "cached/config/config.h"
#include "cached/sync/sync.h"

namespace larder::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kDraw{200};
constexpr size_t kFailuresInJson = 1000;
constexpr int64_t kLeastSpeed = 1024;  // of a transfer: below, libcurl's own limit stands still for seconds

// What the user sees: failures as they come, a progress bar or lines meanwhile, a summary. Sync's threads call the
// events; the rest belongs to one thread.
class SyncReport {
 public:
  explicit SyncReport(const SyncArgs& args) : args_(args), progress_("sync") {}
  ~SyncReport() { stop(); }

  SyncEvents events() {
    SyncEvents out;
    if (args_.verbose || args_.dry_run)
      out.on_action = [this](SyncAction action, const std::string& key, uint64_t size) { acted(action, key, size); };
    out.on_failure = [this](const std::string& key, const Error& error) { failed(key, error); };
    return out;
  }

  void start(const Sync& sync) {
    if (args_.quiet || args_.dry_run) return;
    ticker_ = std::thread([this, &sync] { draw(sync); });
  }

  void stop() {
    {
      MutexLock lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    if (ticker_.joinable()) ticker_.join();
    MutexLock lock(mutex_);
    progress_.finish();
  }

  void summary(const SyncCounts& c) const {
    const double seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
    if (args_.json) return print_json(c, seconds);
    if (args_.quiet) return;
    const char* would = args_.dry_run ? "would be " : "";
    std::string line = fmt::format("{} files {}copied ({})", format_count(c.copied), would,
                                   format_bytes(static_cast<double>(c.copied_bytes)));
    if (args_.remove) line += fmt::format(", {} {}removed", format_count(c.removed), would);
    line += fmt::format(", {} unchanged", format_count(c.unchanged));
    if (c.excluded > 0) line += fmt::format(", {} excluded", format_count(c.excluded));
    line += fmt::format(", {} failed", format_count(c.failed));
    if (c.resumed_bytes > 0)
      line +=
          fmt::format("; {} were there from an interrupted sync", format_bytes(static_cast<double>(c.resumed_bytes)));
    if (!args_.dry_run)
      line += fmt::format("; {}, {}/s", format_duration(seconds),
                          format_bytes(static_cast<double>(c.moved_bytes) / seconds));
    say("{}\n", line);
  }

 private:
  void acted(SyncAction action, const std::string& key, uint64_t size) {
    if (args_.json) return;
    MutexLock lock(mutex_);
    progress_.finish();
    const std::string what = action == SyncAction::kCopy ? "copy" : "remove";
    const std::string verb = args_.dry_run ? "would " + what : action == SyncAction::kCopy ? "copied" : "removed";
    if (action == SyncAction::kCopy) {
      say("{} {} ({})\n", verb, printable(key, kWhole), format_bytes(static_cast<double>(size)));
    } else {
      say("{} {}\n", verb, printable(key, kWhole));
    }
  }

  void failed(const std::string& key, const Error& error) {
    MutexLock lock(mutex_);
    progress_.finish();
    print_err(fmt::format("larder: failed: {}\n", printable(error.message, kWhole)));
    if (failures_.size() < kFailuresInJson)
      failures_.push_back({{"key", key}, {"errno", to_errno(error)}, {"error", error.message}});
  }

  void draw(const Sync& sync) {
    MutexLock lock(mutex_);
    while (!stopping_) {
      changed_.wait_for(mutex_, kDraw);
      if (stopping_) return;
      const SyncCounts c = sync.counts();
      progress_.update({c.copied, c.listed ? c.planned : 0, c.moved_bytes + c.resumed_bytes,
                        c.listed ? c.planned_bytes : 0, c.failed});
    }
  }

  void print_json(const SyncCounts& c, double seconds) const {
    MutexLock lock(mutex_);
    const nlohmann::json out{
        {"copied", c.copied},       {"copied_bytes", c.copied_bytes}, {"resumed_bytes", c.resumed_bytes},
        {"unchanged", c.unchanged}, {"removed", c.removed},           {"excluded", c.excluded},
        {"failed", c.failed},       {"failures", failures_},          {"dry_run", args_.dry_run},
        {"seconds", seconds}};
    say("{}\n", out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  }

  const SyncArgs& args_;
  const Clock::time_point begin_ = Clock::now();
  mutable Mutex mutex_;
  CondVar changed_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  Progress progress_ GUARDED_BY(mutex_);
  nlohmann::json failures_ GUARDED_BY(mutex_) = nlohmann::json::array();
  std::thread ticker_;
};

Result<SyncOptions> sync_options(const SyncArgs& args) {
  SyncOptions out;
  out.compare = args.checksum ? Compare::kChecksum : args.size_only ? Compare::kSize : Compare::kSizeAndTime;
  out.remove = args.remove;
  out.remove_all = args.remove_all;
  out.dry_run = args.dry_run;
  out.jobs = args.dry_run && !args.checksum ? 1 : args.jobs;  // one: in the order of the names
  out.state_directory = UploadState::default_directory();
  for (auto& [include, pattern] : args.filters) {
    if (auto status = out.filter.add(include, pattern); !status.ok()) return status.error();
  }
  if (!args.bwlimit.empty()) {
    auto rate = parse_size(args.bwlimit);
    if (!rate) return make_error(EINVAL, "--bwlimit: " + rate.error().message);
    if (rate->bytes == 0)
      return make_error(EINVAL, fmt::format("--bwlimit '{}': give bytes a second, such as 50M", args.bwlimit));
    out.bytes_per_second = rate->bytes;
  }
  return out;
}

// What the number of jobs and the rate mean for one end's connections.
StoreOptions with_limits(StoreOptions options, const SyncArgs& args, uint64_t rate) {
  options.try_emplace("max_connections", std::to_string(std::clamp(2 * args.jobs, 64, 1024)));
  if (rate > 0)
    options.try_emplace("max_transfer_speed", std::to_string(std::max(kLeastSpeed, static_cast<int64_t>(rate))));
  return options;
}

void report_passed_over(const Endpoint& source, const SyncArgs& args) {
  if (!source.is_directory() || source.files->skipped() == 0 || args.quiet) return;
  warn(fmt::format(
      "{}: {} entries are not files (special files, symbolic links that lead nowhere or in circles, or all with "
      "symlinks=skip) and were passed over",
      source.url.prefix, source.files->skipped()));
}

}  // namespace

int sync_ends(const SyncArgs& args) {
  spdlog::set_level(spdlog::level::off);  // what matters is told below, and stdout is for results
  auto options = sync_options(args);
  if (!options) return fail(options.error(), kExitUsage);
  auto source =
      open_endpoint(args.source, {with_limits(args.source_options, args, options->bytes_per_second), false, false});
  if (!source) return fail(source.error());
  auto target = open_endpoint(args.target,
                              {with_limits(args.target_options, args, options->bytes_per_second), true, args.dry_run});
  if (!target) return fail(target.error());
  auto one_place = overlap(*source, *target, args.dry_run);
  if (!one_place) return fail(one_place.error());
  if (*one_place)
    return fail(make_error(
        EINVAL, fmt::format("'{}' and '{}' are the same or one lies within the other", args.source, args.target)));
  SyncReport report(args);
  Sync sync(*source, *target, std::move(*options), report.events());
  report.start(sync);
  sync.run();
  report.stop();
  report_passed_over(*source, args);
  report.summary(sync.counts());
  const int status = sync.counts().failed == 0 ? kExitOk : kExitFailed;
  return args.json || args.dry_run ? output_status(status) : status;
}

}  // namespace larder::cli
