#include "cached/cli/run.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "cached/base/text.h"
#include "cached/base/units.h"
#include "cached/cli/elf_info.h"
#include "cached/cli/json_read.h"
#include "cached/cli/mount_spec.h"
#include "cached/cli/report.h"
#include "larder/standard_streams.h"

namespace larder::cli {
namespace {

std::string environment(const char* name) {
  const char* value = getenv(name);
  return value ? value : "";
}

Result<std::vector<MountSpec>> parse_mounts(const std::vector<std::string>& texts) {
  std::vector<MountSpec> mounts;
  for (const std::string& text : texts) {
    auto spec = parse_mount(text);
    if (!spec) return spec.error();
    for (const MountSpec& m : mounts)
      if (m.path == spec->path)
        return make_error(EINVAL, fmt::format("--mount path '{}' is given for {} and for {}: choose two paths", m.path,
                                              m.source, spec->source));
    mounts.push_back(*spec);
  }
  return mounts;
}

// A command inside a mount is not there yet; exec will tell.
bool below_a_mount(const std::string& command, const std::vector<MountSpec>& mounts) {
  return std::any_of(mounts.begin(), mounts.end(),
                     [&](const MountSpec& m) { return command.rfind(m.path + "/", 0) == 0; });
}

int command_status(int error) {
  return error == ENOENT ? kExitNotFound : kExitNotExecutable;
}

// 0, or the exit status of a command that cannot be started. Warns of one that cannot be served.
int check_command(const std::string& command, const std::vector<MountSpec>& mounts) {
  if (below_a_mount(command, mounts)) return 0;
  auto path = find_command(command);
  if (!path) return fail(path.error(), command_status(path.error().code));
  auto chain = inspect_command(command);
  if (!chain) return 0;  // a script whose interpreter is missing: exec says so
  if (std::string why = why_not_served(*chain); !why.empty())
    warn(fmt::format("{}: it will not see the mounts (`larder doctor {}` tells more)", why, command));
  else if (std::string part = what_passes_by(*chain); !part.empty())
    warn(fmt::format("{}: those do not see the mounts (`larder doctor {}` tells more)", part, command));
  return 0;
}

Error explain_denied(const Client& client, const Error& error) {
  auto ping = client.request({{"op", "ping"}});
  if (!ping || !truth(*ping, "private")) return error;
  return make_error(
      error.code, fmt::format("{} (larderd, pid {}, has the environment that it was started with: if your credentials "
                              "changed since, `larder shutdown` and run again)",
                              error.message, number(*ping, "pid")));
}

std::vector<std::string> mounted_paths(const Client& client) {
  std::vector<std::string> paths;
  auto status = client.request({{"op", "status"}});
  if (!status) return paths;
  for (const Json& m : list(*status, "mounts"))
    paths.push_back(text(m, "path"));
  return paths;
}

// Mounts all, or takes back those that this call made.
Status mount_all(const Client& client, const std::vector<MountSpec>& mounts, const Options& options,
                 const RunArgs& args) {
  std::vector<std::string> before = mounted_paths(client), made;
  for (const MountSpec& m : mounts) {
    MountArgs mount;
    mount.source = m.source;
    mount.path = m.path;
    mount.options = options;
    mount.fill = args.fill;
    mount.policy = args.policy;
    mount.refresh = !args.offline;
    mount.offline = args.offline;
    mount.own_environment = true;
    auto reply = request_mount(client, mount, false);
    if (!reply) {
      for (const std::string& path : made)
        (void)client.request({{"op", "umount"}, {"path", path}});
      return reply.error().code == EACCES ? explain_denied(client, reply.error()) : reply.error();
    }
    if (std::find(before.begin(), before.end(), m.path) == before.end()) made.push_back(m.path);
    report_skipped(*reply, m.source);
    if (!args.quiet)
      print_err(fmt::format("larder: {} at {}: {} files, {}\n", printable(m.source, kWhole), printable(m.path, kWhole),
                            format_count(number(*reply, "objects")),
                            format_bytes(static_cast<double>(number(*reply, "bytes")))));
  }
  return {};
}

// A daemon that answers; `daemon` tells whether it was started here.
Result<PrivateDaemon> reach_daemon(const SocketPath& socket, const Client& client, const RunArgs& args) {
  auto there = find_daemon(client);
  if (!there) return there.error();
  if (*there == Found::kRunning) {
    if (args.daemon_options_given)
      warn(fmt::format(
          "larderd at '{}' is running already and keeps its settings: --cache-size, --cache-dir, --meta and "
          "--linger count after `larder shutdown`",
          socket.path));
    return PrivateDaemon();
  }
  if (args.mounts.empty())
    return make_error(
        ECONNREFUSED,
        fmt::format("no larderd answers at '{}': give --mount SRC=PATH to start one, start larderd, or set "
                    "LARDER_SOCKET",
                    socket.path));
  if (socket.origin == SocketOrigin::kSystem)
    return make_error(ECONNREFUSED,
                      fmt::format("this machine's larderd does not answer at '{}': start it (systemctl start larderd), "
                                  "or set LARDER_SOCKET to a path of your own for a private one",
                                  socket.path));
  return PrivateDaemon::ensure(socket, args.daemon);
}

int become(const RunArgs& args, const std::string& library, const std::string& socket, const std::string& cache_dir) {
  setenv("LD_PRELOAD", preload_value(library, environment("LD_PRELOAD")).c_str(), 1);
  setenv("LARDER_SOCKET", socket.c_str(), 1);
  if (!cache_dir.empty()) setenv("LARDER_CACHE", cache_dir.c_str(), 1);
  std::vector<char*> argv;
  for (const std::string& word : args.command)
    argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  restore_stream_signals();
  execvp(argv[0], argv.data());
  int error = errno;
  prepare_standard_streams();
  return fail(make_error(error, fmt::format("command '{}': {}", args.command[0], strerror(error))),
              command_status(error));
}

}  // namespace

Result<std::string> find_library() {
  std::string set = environment("LARDER_LIB");
  std::vector<std::string> places = {own_folder() + "/liblarder.so", own_folder() + "/../lib/liblarder.so"};
  if (!set.empty()) places = {set};
  for (const std::string& place : places) {
    if (access(place.c_str(), R_OK) != 0) continue;
    std::unique_ptr<char, decltype(&free)> real(realpath(place.c_str(), nullptr), &free);
    std::string path = real ? real.get() : place;
    if (path.find_first_of(" :") == std::string::npos) return path;
    return make_error(
        EINVAL,
        fmt::format("'{}' cannot be preloaded, as LD_PRELOAD ends a name at a space or colon: copy it elsewhere and "
                    "set LARDER_LIB",
                    path));
  }
  return make_error(ENOENT, fmt::format("liblarder.so is not at '{}': build it (make), or set LARDER_LIB to its path",
                                        fmt::join(places, "' or '")));
}

std::string preload_value(const std::string& library, const std::string& existing) {
  std::string value = library;
  for (size_t at = 0; at < existing.size();) {
    size_t end = std::min(existing.find_first_of(" :", at), existing.size());
    std::string name = existing.substr(at, end - at);
    if (!name.empty() && name != library) value += ":" + name;
    at = end + 1;
  }
  return value;
}

int run_command(const RunArgs& args) {
  auto mounts = parse_mounts(args.mounts);
  if (!mounts) return fail(mounts.error(), kExitRunFailed);
  auto options = parse_options(args.options);
  if (!options) return fail(options.error(), kExitRunFailed);
  auto library = find_library();
  if (!library) return fail(library.error(), kExitRunFailed);
  if (int status = check_command(args.command[0], *mounts)) return status;
  auto socket = find_socket();
  if (!socket) return fail(socket.error(), kExitRunFailed);
  Client client(socket->path);
  auto daemon = reach_daemon(*socket, client, args);
  if (!daemon) return fail(daemon.error(), kExitRunFailed);
  if (Status mounted = mount_all(client, *mounts, *options, args); !mounted) {
    daemon->undo(client);
    return fail(mounted.error(), kExitRunFailed);
  }
  auto noted = client.request({{"op", "run"}});
  if (!noted) return fail(noted.error(), kExitRunFailed);
  return become(args, *library, socket->path, text(*noted, "cache_dir"));
}

}  // namespace larder::cli
