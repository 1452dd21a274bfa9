#include "cached/cli/app.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <functional>

#include "cached/base/command_manual.h"
#include "cached/base/units.h"
#include "cached/base/version.h"
#include "cached/cli/commands.h"
#include "cached/cli/doctor.h"
#include "cached/cli/metadata.h"
#include "cached/cli/mount_spec.h"
#include "cached/cli/report.h"
#include "cached/cli/run.h"
#include "cached/cli/socket_path.h"
#include "cached/cli/status.h"
#include "cached/cli/sync.h"
#include "cached/config/config.h"

namespace larder::cli {
namespace {

// What the command line asks for; `action` runs after all of it has been parsed.
struct Words {
  RunArgs run;
  std::string endpoint, region, doctor_command, check_path, name, meta;
  FormatArgs format;
  MountArgs mount;
  WarmArgs warm;
  std::vector<std::string> options, source_options, target_options, includes, excludes, paths;
  SyncArgs sync;
  bool json = false, repair = false, offline = false;
  double interval = 1;
  std::function<int()> action;
};

int with_client(const std::function<int(const Client&)>& body) {
  auto socket = find_socket();
  return socket ? body(Client(socket->path)) : fail(socket.error());
}

// Store options of `format` and `mount`: --option, --endpoint, --region.
Result<Options> store_options(const Words& w) {
  auto options = parse_options(w.options);
  if (!options) return options;
  if (!w.endpoint.empty()) (*options)["endpoint"] = w.endpoint;
  if (!w.region.empty()) (*options)["region"] = w.region;
  return options;
}

// The daemon has another working directory.
void make_absolute(std::string& path) {
  if (!path.empty()) path = std::filesystem::absolute(path).lexically_normal().string();
}

int act_run(Words& w) {
  if (w.run.command.empty())
    return fail(make_error(EINVAL, "run needs -- and a command: larder run --mount SRC=PATH -- CMD..."), kExitUsage);
  if (!w.run.daemon.cache_size.empty())
    if (auto size = parse_size(w.run.daemon.cache_size); !size)
      return fail(make_error(EINVAL, "--cache-size: " + size.error().message), kExitRunFailed);
  make_absolute(w.run.daemon.cache_dir);
  return run_command(w.run);
}

int act_format(Words& w) {
  auto options = store_options(w);
  if (!options) return fail(options.error());
  w.format.options = *options;
  if (!w.meta.empty() && !w.format.restore) return format_directly(w.meta, w.format);
  return with_client([&](const Client& c) { return format_dataset(c, w.format); });
}

int act_mount(Words& w) {
  auto options = store_options(w);
  if (!options) return fail(options.error());
  w.mount.options = *options;
  return with_client([&](const Client& c) { return mount_dataset(c, w.mount); });
}

// --include and --exclude are rules in the order of the command line, across both.
void order_filters(const CLI::App& sub, const CLI::Option* include, const CLI::Option* exclude, Words& w) {
  size_t includes = 0, excludes = 0;
  for (const CLI::Option* option : sub.parse_order()) {
    if (option == include) w.sync.filters.emplace_back(true, w.includes[includes++]);
    if (option == exclude) w.sync.filters.emplace_back(false, w.excludes[excludes++]);
  }
}

int act_sync(Words& w) {
  auto both = store_options(w);
  if (!both) return fail(both.error());
  auto source = parse_options(w.source_options), target = parse_options(w.target_options);
  if (!source) return fail(source.error());
  if (!target) return fail(target.error());
  w.sync.source_options = std::move(*source);
  w.sync.target_options = std::move(*target);
  w.sync.source_options.insert(both->begin(), both->end());  // those of one end win
  w.sync.target_options.insert(both->begin(), both->end());
  w.sync.remove = w.sync.remove || w.sync.remove_all;
  return sync_ends(w.sync);
}

void add_run(CLI::App& app, Words& w) {
  CLI::App* run = app.add_subcommand("run", "Run a command that sees the mounts; its exit status is the command's");
  run->add_option("--mount", w.run.mounts,
                  "SRC=PATH: show a source (s3://bucket/prefix, file:///dir, or a dataset's name) at a path")
      ->type_name("SRC=PATH")
      ->expected(1)
      ->take_all();
  run->add_option("--option", w.run.options,
                  "Option of the sources, such as endpoint=http://host:9000 or region=eu-west-1")
      ->type_name("KEY=VALUE")
      ->expected(1)
      ->take_all();
  auto* size =
      run->add_option("--cache-size", w.run.daemon.cache_size, "Memory that a private daemon may use, such as 20G")
          ->type_name("N");
  auto* dir = run->add_option("--cache-dir", w.run.daemon.cache_dir, "Cache directory of a private daemon, on a tmpfs")
                  ->type_name("DIR");
  auto* meta = run->add_option("--meta", w.run.daemon.meta, "Metadata of a private daemon, such as local:///dir")
                   ->type_name("URL");
  auto* linger = run->add_option("--linger", w.run.daemon.linger_s,
                                 "Seconds a private daemon stays after the last program (default 600)")
                     ->check(CLI::Range(1, 1000000000))
                     ->type_name("SECONDS");
  run->add_option("--fill", w.run.fill, "Fetch ahead: eager, siblings or off")
      ->check(CLI::IsMember({"eager", "siblings", "off"}));
  run->add_option("--policy", w.run.policy, "What stays when the cache is full: keep, or sieve for skewed reads")
      ->check(CLI::IsMember({"keep", "sieve"}));
  run->add_flag("--offline", w.run.offline, "List nothing: use the stored versions of the sources");
  run->add_flag("-q,--quiet", w.run.quiet, "Do not print what was mounted");
  run->footer(
      "Then -- and the command with its arguments:\n  larder run --mount s3://bucket/train=/data -- python train.py "
      "--epochs 3");
  run->callback([&w, size, dir, meta, linger] {
    w.run.daemon_options_given = *size || *dir || *meta || *linger;
    w.action = [&w] { return act_run(w); };
  });
}

void add_store_options(CLI::App* sub, Words& w) {
  sub->add_option("--endpoint", w.endpoint, "URL of the store's server")->type_name("URL");
  sub->add_option("--region", w.region, "Region of the store")->type_name("R");
  sub->add_option("--option", w.options, "Another option of the source")
      ->type_name("KEY=VALUE")
      ->expected(1)
      ->take_all();
}

void add_meta_option(CLI::App* sub, Words& w) {
  sub->add_option(
         "--meta", w.meta,
         "Use this metadata, such as redis://host:6379/0, without a larderd; REDIS_PASSWORD holds its password")
      ->envname("LARDER_META")
      ->type_name("URL");
}

void add_datasets(CLI::App& app, Words& w) {
  CLI::App* format = app.add_subcommand("format", "Register a dataset under a name (lists nothing yet)");
  format->add_option("name", w.format.name, "Name of the dataset")->required();
  format->add_option("source", w.format.source, "s3://bucket/prefix or file:///dir")->required();
  format->add_option("--group", w.format.group, "Unix group that may read it (default: everybody)")->type_name("G");
  format->add_flag("--restore", w.format.restore,
                   "Publish the version that this node has loaded again, after metadata was lost");
  add_store_options(format, w);
  add_meta_option(format, w);
  format->callback([&w] { w.action = [&w] { return act_format(w); }; });

  CLI::App* mount = app.add_subcommand("mount", "Show a dataset at a path, now and after a restart of larderd");
  mount->add_option("source", w.mount.source, "A dataset's name, or a URL")->required();
  mount->add_option("path", w.mount.path, "An absolute path; it need not exist")->required();
  mount->add_flag("--refresh", w.mount.refresh, "List the bucket even if a version is known");
  mount->add_flag("--offline", w.mount.offline, "List nothing: use the stored version");
  mount->add_option("--fill", w.mount.fill, "Fetch ahead: eager, siblings or off")
      ->check(CLI::IsMember({"eager", "siblings", "off"}));
  mount->add_option("--fallback", w.mount.fallback, "What programs do while larderd is away: wait, origin or error")
      ->check(CLI::IsMember({"wait", "origin", "error"}));
  mount->add_option("--policy", w.mount.policy, "What stays when the cache is full: keep, or sieve for skewed reads")
      ->check(CLI::IsMember({"keep", "sieve"}));
  mount
      ->add_option("--quota", w.mount.quota,
                   "The most of the cache that the dataset may have, such as 20G, 50% or none")
      ->type_name("N");
  add_store_options(mount, w);
  mount->callback([&w] { w.action = [&w] { return act_mount(w); }; });

  CLI::App* umount = app.add_subcommand("umount", "Remove the mount at a path");
  umount->add_option("path", w.name, "The path of a mount")->required();
  umount->callback(
      [&w] { w.action = [&w] { return with_client([&](const Client& c) { return umount_path(c, w.name); }); }; });

  CLI::App* refresh = app.add_subcommand("refresh", "List a dataset's bucket again and publish what changed");
  refresh->add_option("name", w.name, "Name of the dataset")->required();
  refresh->add_flag("--offline", w.offline, "Take the stored version, which another node may have made; list nothing");
  add_meta_option(refresh, w);
  refresh->callback([&w] {
    w.action = [&w] {
      if (!w.meta.empty()) return refresh_directly(w.meta, w.name);
      return with_client([&](const Client& c) { return refresh_dataset(c, w.name, w.offline); });
    };
  });

  CLI::App* nodes = app.add_subcommand("nodes", "List the nodes that cache a dataset, the one with the most first");
  nodes->add_option("dataset", w.name, "Name of the dataset (default: all)");
  nodes->add_flag("--json", w.json, "As JSON (docs/protocol.md)");
  add_meta_option(nodes, w);
  nodes->callback([&w] { w.action = [&w] { return show_nodes(w.meta, w.name, w.json); }; });
}

void add_cache(CLI::App& app, Words& w) {
  CLI::App* warm = app.add_subcommand("warm", "Fetch files or folders ahead; fails if any file does");
  warm->add_option("path", w.warm.paths, "Files and folders below a mount");
  warm->add_option("--list", w.warm.list, "A file with a path a line, in the order to fetch (-: stdin)")
      ->type_name("FILE");
  warm->add_option("--jobs", w.warm.jobs, "Requests at a time (default: larderd decides)")
      ->check(CLI::Range(1, 1024))
      ->type_name("N");
  warm->add_flag("--wait", w.warm.wait,
                 "Wait for the end (default); --wait=false leaves a job that larder status shows");
  warm->add_option("--stop", w.warm.stop, "End a job that is under way")->type_name("JOB");
  warm->add_flag("--pin", w.warm.pin, "Pin them, and what a refresh adds below them, until `larder unpin`");
  warm->callback(
      [&w] { w.action = [&w] { return with_client([&](const Client& c) { return warm_paths(c, w.warm); }); }; });

  CLI::App* unpin = app.add_subcommand("unpin", "Unpin files or folders pinned by `larder warm --pin`");
  unpin->add_option("path", w.paths, "Files and folders below a mount")->required();
  unpin->callback(
      [&w] { w.action = [&w] { return with_client([&](const Client& c) { return unpin_paths(c, w.paths); }); }; });

  CLI::App* evict = app.add_subcommand("evict", "Drop files or folders from the cache, except those in use or pinned");
  evict->add_option("path", w.paths, "Files and folders below a mount")->required();
  evict->callback(
      [&w] { w.action = [&w] { return with_client([&](const Client& c) { return evict_paths(c, w.paths); }); }; });

  CLI::App* check = app.add_subcommand("check", "Compare cached files with their checksums; fails if any is corrupt");
  check->add_flag("--repair", w.repair, "Drop corrupt files, so that they are fetched again");
  check->add_option("path", w.check_path, "Only below this path");
  check->callback([&w] {
    w.action = [&w] { return with_client([&](const Client& c) { return check_cache(c, w.repair, w.check_path); }); };
  });
}

CLI::Option* add_list(CLI::App* sub, const char* name, std::vector<std::string>& words, const char* help,
                      const char* type) {
  return sub->add_option(name, words, help)->type_name(type)->expected(1)->take_all()->allow_extra_args(false);
}

void add_sync(CLI::App& app, Words& w) {
  CLI::App* sync = app.add_subcommand("sync", "Make DST like SRC: directories, s3:// and bos://; needs no larderd");
  sync->add_option("source", w.sync.source,
                   "A directory, s3://bucket/prefix, bos://bucket/prefix or http(s)://host/dir")
      ->required();
  sync->add_option("target", w.sync.target, "A directory, s3://bucket/prefix or bos://bucket/prefix")->required();
  sync->add_flag("--delete", w.sync.remove, "Remove from DST what SRC does not have, after all was copied");
  sync->add_flag("--delete-all", w.sync.remove_all, "Like --delete, even if SRC is empty");
  sync->add_flag("-n,--dry-run", w.sync.dry_run, "Only say what would be copied and removed");
  auto* include = add_list(sync, "--include", w.includes, "Copy what matches, whatever later patterns say", "PATTERN");
  auto* exclude = add_list(sync, "--exclude", w.excludes, "Skip what matches, on both sides", "PATTERN");
  auto* checksum = sync->add_flag("-c,--checksum", w.sync.checksum, "Compare contents, not times");
  sync->add_flag("--size-only", w.sync.size_only, "Compare sizes only")->excludes(checksum);
  sync->add_option("-j,--jobs", w.sync.jobs, "Transfers at a time (default 32)")
      ->check(CLI::Range(1, 512))
      ->type_name("N");
  sync->add_option("--bwlimit", w.sync.bwlimit, "Bytes a second, such as 50M")->type_name("RATE");
  add_store_options(sync, w);
  add_list(sync, "--src-option", w.source_options, "Option of SRC alone", "KEY=VALUE");
  add_list(sync, "--dst-option", w.target_options, "Option of DST alone", "KEY=VALUE");
  sync->add_flag("-v,--verbose", w.sync.verbose, "Print a line for each file copied or removed");
  sync->add_flag("-q,--quiet", w.sync.quiet, "Print failures only");
  sync->add_flag("--json", w.sync.json, "The summary as JSON (docs/sync.md)");
  sync->footer(
      "The first pattern that matches a name, or a folder that it lies in, decides:\n  larder sync --include '*.jpg' "
      "--exclude '*' /data s3://bucket/images");
  sync->callback([&w, sync, include, exclude] {
    order_filters(*sync, include, exclude, w);
    w.action = [&w] { return act_sync(w); };
  });
}

void add_daemon(CLI::App& app, Words& w) {
  CLI::App* status = app.add_subcommand("status", "Show larderd's mounts, cache and counters");
  status->add_flag("--json", w.json, "As JSON (docs/protocol.md)");
  status->callback(
      [&w] { w.action = [&w] { return with_client([&](const Client& c) { return show_status(c, w.json); }); }; });

  CLI::App* top = app.add_subcommand("top", "Show the status with rates, redrawn at an interval");
  top->add_option("--interval", w.interval, "Seconds between redraws (default 1)")
      ->check(CLI::Range(0.1, 3600.0))
      ->type_name("SECONDS");
  top->callback(
      [&w] { w.action = [&w] { return with_client([&](const Client& c) { return show_top(c, w.interval); }); }; });

  CLI::App* doctor = app.add_subcommand("doctor", "Diagnose what keeps Larder, or a command, from working");
  doctor->add_option("command", w.doctor_command, "A program or script to look at")->type_name("CMD");
  doctor->callback([&w] { w.action = [&w] { return run_doctor(w.doctor_command); }; });

  CLI::App* shutdown =
      app.add_subcommand("shutdown", "Stop larderd; cached files stay readable, and the next larderd takes them over");
  shutdown->callback(
      [&w] { w.action = [] { return with_client([](const Client& c) { return shutdown_daemon(c); }); }; });
}

// What man(1) has of larder besides its options.
constexpr std::string_view kManualRest = R"(.SH EXIT STATUS
0, or 1 if the work failed, or 2 if the words cannot be understood. \fBlarder run\fR ends with the status of its
command; 125 if Larder failed, 126 if the command cannot be executed, 127 if it is not found.
.SH ENVIRONMENT
.TP
\fBLARDER_SOCKET\fR
The socket of larderd, if it is not the node's or the user's own.
.TP
\fBLARDER_META\fR
The metadata that \fBformat\fR, \fBrefresh\fR and \fBnodes\fR use without a larderd.
.SH SEE ALSO
.BR larderd (8)
)";

void add_manual(CLI::App& app, Words& w) {
  CLI::App* completion = app.add_subcommand("completion", "Print a script that completes larder's words in a shell");
  completion->add_option("shell", w.name, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  completion->footer("For the shell that runs:\n  eval \"$(larder completion bash)\"");
  completion->callback([&] { w.action = [&] { return say("{}", *completion_script(app, w.name)), kExitOk; }; });

  CLI::App* manual = app.add_subcommand("manual", "Print larder(1)")->group("");  // make install asks for it
  manual->callback([&] { w.action = [&] { return say("{}", manual_page(app, 1, kManualRest)), kExitOk; }; });
}

// Takes what follows the first "--" of `larder run` off the words, as it is: nothing in a command's own arguments is
// ours.
int cut_command(int argc, char** argv, Words& w) {
  if (argc < 2 || std::string(argv[1]) != "run") return argc;
  int end = 2;
  while (end < argc && std::string(argv[end]) != "--")
    ++end;
  for (int i = end + 1; i < argc; ++i)
    w.run.command.emplace_back(argv[i]);
  return end;
}

std::string explain(const CLI::App& app, const CLI::ParseError& e, int argc, char** argv) {
  if (!app.get_subcommands().empty() || argc < 2) return e.what();
  return fmt::format("unknown command '{}'", argv[1]);
}

// CLI11's messages name the option and the value; help goes to stdout, and everything is one line otherwise.
int report_parse_error(const CLI::App& app, const CLI::ParseError& e, int argc, char** argv) {
  if (e.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return output_status(app.exit(e));
  return fail(
      make_error(EINVAL, fmt::format("{}: see `larder{} --help`", explain(app, e, argc, argv),
                                     app.get_subcommands().empty() ? "" : " " + app.get_subcommands()[0]->get_name())),
      kExitUsage);
}

}  // namespace

int run_app(int argc, char** argv) {
  Words words;
  CLI::App app("larder: a cache that gives training jobs their dataset at the speed of local memory", "larder");
  app.set_version_flag("--version", std::string("larder ") + kVersion);
  app.require_subcommand(1);
  add_run(app, words);
  add_datasets(app, words);
  add_cache(app, words);
  add_sync(app, words);
  add_daemon(app, words);
  add_manual(app, words);
  try {
    app.parse(cut_command(argc, argv, words), argv);
  } catch (const CLI::ParseError& e) {
    return report_parse_error(app, e, argc, argv);
  }
  return words.action();
}

}  // namespace larder::cli
