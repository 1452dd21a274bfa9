#include "cached/requests/admin.h"

#include "cached/requests/may_administer.h"

namespace larder {

using nlohmann::json;

template <typename Commands>
static AdminCommand command(Commands& commands, AdminAnswer (Commands::*run)(const AdminCall&), bool privileged,
                            Lane lane) {
  return {[&commands, run](const AdminCall& call) { return (commands.*run)(call); }, privileged, lane};
}

Admin::Admin(Parts p)
    : config_(p.config),
      dir_(p.dir),
      server_(p.server),
      keeper_(p.keeper),
      warm_jobs_(p.flights),
      status_(
          {p.config, p.dir, p.publisher, p.cache, p.datasets, p.flights, p.filler, p.server, p.miss_waits, warm_jobs_}),
      datasets_({p.config, p.cache, p.datasets, p.meta}),
      cache_({p.config, p.cache, p.datasets, p.flights, warm_jobs_}),
      dispatcher_(commands(),
                  [&config = p.config](const Peer& peer) { return may_administer(peer, config.admin_group); }) {}

std::map<std::string, AdminCommand> Admin::commands() {
  constexpr bool kAnybody = false, kPrivileged = true;
  auto shutdown = [this](const AdminCall& call) {
    call.answer(json::object());  // before the server stops: it sends what was posted first
    if (keeper_) keeper_->say(KeeperOp::kEnd);
    server_.stop();
    return AdminAnswer(json::object());
  };
  // The asker is about to become the command of `larder run`.
  auto run = [this](const AdminCall& call) {
    if (config_.is_private) runs_.add(call.peer().pid);
    return AdminAnswer(json{{"cache_dir", dir_.home().path()}});
  };
  return {{"ping", command(status_, &StatusCommands::ping, kAnybody, Lane::kQuick)},
          {"status", command(status_, &StatusCommands::status, kAnybody, Lane::kQuick)},
          {"format", command(datasets_, &DatasetCommands::format, kPrivileged, Lane::kStores)},
          {"nodes", command(datasets_, &DatasetCommands::nodes, kAnybody, Lane::kStores)},
          {"mount", command(datasets_, &DatasetCommands::mount, kPrivileged, Lane::kStores)},
          {"umount", command(datasets_, &DatasetCommands::umount, kPrivileged, Lane::kControl)},
          {"refresh", command(datasets_, &DatasetCommands::refresh, kPrivileged, Lane::kStores)},
          {"warm", command(cache_, &CacheCommands::warm, kAnybody, Lane::kLong)},
          {"warm_stop", command(cache_, &CacheCommands::warm_stop, kAnybody, Lane::kControl)},
          {"unpin", command(cache_, &CacheCommands::unpin, kPrivileged, Lane::kControl)},
          {"evict", command(cache_, &CacheCommands::evict, kPrivileged, Lane::kControl)},
          {"check", command(cache_, &CacheCommands::check, kPrivileged, Lane::kLong)},
          {"run", {run, kAnybody, Lane::kQuick}},
          {"shutdown", {shutdown, kPrivileged, Lane::kControl}}};
}

}  // namespace larder
