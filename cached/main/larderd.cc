// larderd [--config FILE]: the daemon's command line. It stays in the foreground.
#include <unistd.h>
#include <CLI/CLI.hpp>

#include <cstdio>

#include "cached/base/command_manual.h"
#include "cached/base/log.h"
#include "cached/base/version.h"
#include "cached/main/daemon.h"
#include "cached/metrics/metrics_server.h"
#include "cached/store/api/store.h"
#include "larder/keeper.h"
#include "larder/standard_streams.h"

namespace larder {
namespace {

// What man(1) has of larderd besides its options.
constexpr std::string_view kManualRest = R"(.SH SIGNALS
SIGTERM and SIGINT end it; cached files stay readable, and the next larderd takes them over.
.SH FILES
.TP
\fI/etc/larder/larder.toml\fR
The configuration. Its keys are in configuration.md, which lies in share/doc/larder.
.SH SEE ALSO
.BR larder (1)
)";

void add_flags(CLI::App& app, ConfigFlags& f) {
  app.add_option("--config", f.config_file, "configuration file (default: /etc/larder/larder.toml, if there is one)");
  app.add_option("--socket", f.socket, "path of the socket");
  app.add_option("--cache-dir", f.cache_dir, "cache folder, on tmpfs");
  app.add_option("--cache-size", f.cache_size, "bytes, 8GiB, or a share of the file system such as 50%");
  app.add_option("--state-dir", f.state_dir, "folder for what a reboot must not lose");
  app.add_option("--meta", f.meta, "metadata: local: or local:///path");
  app.add_option("--linger", f.linger_s, "private: end after this many seconds without programs; 0: never");
  app.add_option("--log-file", f.log_file, "log there instead of to stderr");
  app.add_option("--log-level", f.log_level, "trace, debug, info, warn or error");
  app.add_flag("--private", f.is_private, "serve this user only, from folders of the user's own");
  app.add_flag("--check", f.check, "check the configuration, say what is wrong, and end");
  app.add_flag("--foreground")->description("stay in the foreground (always so)");
  app.set_version_flag("--version", std::string("larderd ") + kVersion);
}

int fail(const Error& e) {
  fprintf(stderr, "larderd: %s\n", e.message.c_str());
  return 1;
}

// What can be known without asking a store and without changing anything: also that the options of each source fit it.
int check(const Config& config) {
  for (const std::string& warning : config.warnings)
    fprintf(stderr, "larderd: warning: %s\n", warning.c_str());
  if (!config.metrics.empty()) {
    if (auto address = parse_address(config.metrics); !address) return fail(address.error());
  }
  for (const MountConfig& mount : config.mounts) {
    if (mount.source.empty()) continue;
    const auto store = open_store(mount.source, options_for(config, mount.source, {}));
    if (!store) return fail(make_error(EINVAL, "mount of " + mount.path + ": " + store.error().message));
  }
  printf("larderd: the configuration is good: %zu mounts\n", config.mounts.size());
  return 0;
}

// Root may read what the users who write into a source may not: their links do not lead out of it, unless larder.toml
// says symlinks = "follow".
StoreOpener opener(const Config& config) {
  const bool guarded = !config.is_private && ::geteuid() == 0;
  return [guarded](std::string_view source, StoreOptions options) {
    if (guarded && source.starts_with("file:")) options.try_emplace("symlinks", "inside");
    return open_store(source, options);
  };
}

int run(ConfigFlags flags) {
  StoredDescriptors passed = StoredDescriptors::adopt();
  const Fd file = passed.take(kConfigDescriptor);
  if (file.valid()) flags.config_file = "/dev/fd/" + std::to_string(file.get());
  Result<Config> config = load_config(flags);
  if (!config) return fail(config.error());
  if (flags.check) return check(*config);
  if (Status s = set_up_log(config->log_file, config->log_level); !s) return fail(s.error());
  Status s = run_daemon(*config, opener(*config), std::move(passed));
  if (s) return 0;
  if (!config->log_file.empty()) spdlog::error("{}", s.error().message);
  return fail(s.error());
}

}  // namespace
}  // namespace larder

int main(int argc, char** argv) {
  larder::prepare_standard_streams();
  larder::prepare_process();
  CLI::App app("The daemon of Larder: keeps what programs read from a bucket in shared memory.", "larderd");
  larder::ConfigFlags flags;
  larder::add_flags(app, flags);
  bool manual = false;
  app.add_flag("--manual", manual)->group("");  // make install asks for it
  CLI11_PARSE(app, argc, argv);
  if (manual) {
    printf("%s", larder::manual_page(app, 8, larder::kManualRest).c_str());
    return 0;
  }
  return larder::run(flags);
}
