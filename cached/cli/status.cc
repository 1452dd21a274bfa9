#include "cached/cli/status.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <cstring>
#include <thread>

#include "cached/base/text.h"
#include "cached/base/units.h"
#include "cached/cli/json_read.h"
#include "cached/cli/report.h"

namespace larder::cli {
namespace {

std::string bytes_of(const Json& object, const char* key) {
  return format_bytes(static_cast<double>(number(object, key)));
}
std::string count_of(const Json& object, const char* key) {
  return format_count(number(object, key));
}

double share(uint64_t part, uint64_t whole) {
  return whole > 0 ? 100.0 * static_cast<double>(part) / static_cast<double>(whole) : 0;
}

std::string render_mount(const Json& m) {
  std::string out = fmt::format("\n{}\n  dataset  {} version {}, {}\n  files    {} ({}), cached {} ({}), {:.0f}%\n",
                                printable(text(m, "path"), kWhole), printable(text(m, "dataset"), kWhole),
                                number(m, "version"), printable(text(m, "source"), kWhole), count_of(m, "objects"),
                                bytes_of(m, "bytes"), count_of(m, "cached_files"), bytes_of(m, "cached_bytes"),
                                share(number(m, "cached_files"), number(m, "objects")));
  if (auto ratio = m.find("predicted_hit_ratio"); ratio != m.end() && ratio->is_number())
    out += fmt::format("  epoch    {:.1f}% hits predicted when shuffled; {} files in use, {} partly cached\n",
                       100 * ratio->get<double>(), count_of(m, "in_use"), count_of(m, "lazy_partial"));
  if (number(m, "pinned_files") > 0)
    out += fmt::format("  pinned   {} files ({})\n", count_of(m, "pinned_files"), bytes_of(m, "pinned_bytes"));
  if (number(m, "quota") > 0 || text(m, "policy") == "sieve")
    out += fmt::format("  policy   {}, quota {}\n", printable(text(m, "policy"), kWhole),
                       number(m, "quota") > 0 ? bytes_of(m, "quota") : "none");
  const Json& fill = member(m, "fill");
  std::string state = text(fill, "state");
  if (!state.empty() && state != "off")
    out += fmt::format("  fill     {}, {}/{}\n", printable(state, kWhole), count_of(fill, "done"),
                       count_of(fill, "total"));
  if (number(m, "skipped") > 0)
    out += fmt::format("  skipped  {} objects whose keys no path can name\n", count_of(m, "skipped"));
  return out;
}

std::string render_warm_job(const Json& j) {
  std::string out =
      fmt::format("\nwarm job {}: {}: {}, {}/{} files ({} of {}), {} failed\n", number(j, "job"),
                  printable(text(j, "path"), kWhole), printable(text(j, "state"), kWhole), count_of(j, "done"),
                  count_of(j, "files"), bytes_of(j, "done_bytes"), bytes_of(j, "bytes"), count_of(j, "failed"));
  if (!text(j, "error").empty()) out += fmt::format("  {}\n", printable(text(j, "error"), kWhole));
  return out;
}

// A folder, or memory without a path.
std::string cache_name(const Json& s) {
  const std::string folder = text(s, "cache_dir");
  return folder.empty() ? "memory of its own" : folder;
}

// What it means for programs, and why it is this one.
std::string home_line(const Json& home) {
  return fmt::format("{}, {}: {}", text(home, "kind") == "own" ? "own" : "a folder",
                     truth(home, "read_only") ? "read-only to programs" : "whoever is its user or root may change it",
                     printable(text(home, "reason")));
}

std::string render_keeper(const Json& keeper) {
  if (keeper.empty()) return "";
  std::string out = fmt::format("keeper   pid {}, larderd was started again {} times", number(keeper, "pid"),
                                count_of(keeper, "restarts"));
  const std::string last = text(keeper, "last_end");
  return out + (last.empty() ? "\n" : fmt::format("; the last one {}\n", printable(last, kWhole)));
}

std::string render_head(const Json& s) {
  const Json& cache = member(s, "cache");
  return fmt::format(
             "larderd {} pid {}{}, up {}\nsocket   {}\ncache    {}: {} of {} used ({:.0f}%), {} files\nhome     "
             "{}\nmetadata {}\n",
             printable(text(s, "version"), kWhole), number(s, "pid"), truth(s, "private") ? " (private)" : "",
             format_duration(static_cast<double>(number(s, "uptime_s"))), printable(text(s, "socket"), kWhole),
             printable(cache_name(s), kWhole), bytes_of(cache, "used"), bytes_of(cache, "size"),
             share(number(cache, "used"), number(cache, "size")), count_of(cache, "files"),
             home_line(member(s, "home")), printable(text(s, "meta"), kWhole)) +
         render_keeper(member(s, "keeper"));
}

struct Counter {
  const char* section;
  const char* key;
  const char* label;
  bool bytes;
};
constexpr Counter kCounters[] = {
    {"reads", "warm_opens", "opens from the cache", false},
    {"reads", "warm_bytes", "  their bytes", true},
    {"reads", "miss_opens", "opens that waited", false},
    {"reads", "stats", "stats", false},
    {"reads", "lists", "folders listed", false},
    {"reads", "errors", "errors to programs", false},
    {"store", "gets", "GETs to the store", false},
    {"store", "bytes", "  their bytes", true},
    {"store", "retries", "retries", false},
    {"store", "errors", "errors of the store", false},
};

std::string value_of(const Counter& c, double value, const char* suffix) {
  return (c.bytes ? format_bytes(value) : format_count(static_cast<uint64_t>(std::llround(value)))) + suffix;
}

bool g_stop_is_installed = false;
volatile std::sig_atomic_t g_stop = 0;

void stop_on_interrupt() {
  if (g_stop_is_installed) return;
  struct sigaction action {};
  action.sa_handler = [](int) { g_stop = 1; };  // without SA_RESTART: the sleep ends
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  g_stop_is_installed = true;
}

void interruptible_sleep(double seconds) {
  timespec time{static_cast<time_t>(seconds),
                static_cast<long>((seconds - static_cast<double>(static_cast<time_t>(seconds))) * 1e9)};
  nanosleep(&time, nullptr);
}

}  // namespace

std::string render_status(const Json& s) {
  const Json& reads = member(s, "reads");
  const Json& store = member(s, "store");
  uint64_t warm = number(reads, "warm_opens"), miss = number(reads, "miss_opens");
  std::string out = render_head(s);
  out += fmt::format("opens    {} from the cache ({}), {} waited for the store; {:.1f}% hits\n", format_count(warm),
                     bytes_of(reads, "warm_bytes"), format_count(miss), share(warm, warm + miss));
  out += fmt::format("store    {} GETs, {} received, {} retries, {} errors; {} under way, {} wait\n",
                     count_of(store, "gets"), bytes_of(store, "bytes"), count_of(store, "retries"),
                     count_of(store, "errors"), count_of(store, "in_flight"), count_of(store, "queued"));
  for (const Json& m : list(s, "mounts"))
    out += render_mount(m);
  for (const Json& j : list(s, "warm_jobs"))
    out += render_warm_job(j);
  for (const Json& w : list(s, "waiting_mounts")) {
    const std::string source = text(w, "source");
    out += fmt::format("\nnot mounted at {}: {}: {}\n", printable(text(w, "path"), kWhole),
                       printable(source.empty() ? text(w, "dataset") : source, kWhole),
                       printable(text(w, "trouble"), kWhole));
  }
  for (const Json& d : list(s, "datasets"))
    if (!truth(d, "mounted"))
      out += fmt::format("\nnot mounted: {} ({})\n", printable(text(d, "name"), kWhole),
                         printable(text(d, "source"), kWhole));
    else if (!text(d, "trouble").empty())
      out += fmt::format("\n{} does not follow its metadata now: {}\n", printable(text(d, "name"), kWhole),
                         printable(text(d, "trouble"), kWhole));
  return out;
}

std::string render_top(const Json& before, const Json& after, double seconds) {
  std::string out = render_head(after) + fmt::format("\n{:<24}{:>16}{:>16}\n", "", "a second", "since start");
  for (const Counter& c : kCounters) {
    double from = static_cast<double>(number(member(before, c.section), c.key));
    double to = static_cast<double>(number(member(after, c.section), c.key));
    double rate = seconds > 0 && to > from ? (to - from) / seconds : 0;
    out += fmt::format("{:<24}{:>16}{:>16}\n", c.label, value_of(c, rate, "/s"), value_of(c, to, ""));
  }
  const Json& store = member(after, "store");
  out += fmt::format("{:<24}{:>16}{:>16}\n", "requests under way", count_of(store, "in_flight"),
                     count_of(store, "queued") + " wait");
  for (const Json& m : list(after, "mounts"))
    out += render_mount(m);
  return out;
}

int show_status(const Client& client, bool json) {
  auto status = client.request({{"op", "status"}});
  if (!status) return fail(status.error());
  if (json)
    say("{}\n", status->dump(-1, ' ', false, Json::error_handler_t::replace));
  else
    say("{}", render_status(*status));
  return output_status(kExitOk);
}

int show_top(const Client& client, double seconds) {
  if (!isatty(STDOUT_FILENO))
    return fail(make_error(ENOTTY, "top needs a terminal: use `larder status --json` in scripts"));
  auto before = client.request({{"op", "status"}});
  if (!before) return fail(before.error());
  stop_on_interrupt();
  auto then = std::chrono::steady_clock::now();
  while (!g_stop) {
    interruptible_sleep(seconds);
    auto after = client.request({{"op", "status"}});
    if (!after) return fail(after.error());
    auto now = std::chrono::steady_clock::now();
    say("\x1b[H\x1b[2J{}\nCtrl-C ends\n",
        render_top(*before, *after, std::chrono::duration<double>(now - then).count()));
    if (int end = output_status(kExitOk)) return end;
    before = std::move(after);
    then = now;
  }
  return kExitOk;
}

}  // namespace larder::cli
