#include "cached/requests/admin.h"

#include "cached/requests/may_administer.h"

namespace larder {

using nlohmann::json;

template <typename Commands>
static AdminCommand command(Commands& commands, AdminAnswer (Commands::*run)(const AdminCall&), bool privileged,
                            bool quick = false) {
  return {[&commands, run](const AdminCall& call) { return (commands.*run)(call); }, privileged, quick};
}

Admin::Admin(Parts p)
    : server_(p.server),
      status_({p.config, p.dir, p.publisher, p.cache, p.datasets, p.flights, p.filler, p.server, p.miss_waits}),
      datasets_({p.config, p.cache, p.datasets, p.meta}),
      cache_({p.config, p.cache, p.datasets, p.flights}),
      dispatcher_(commands(),
                  [&config = p.config](const Peer& peer) { return may_administer(peer, config.admin_group); }) {}

std::map<std::string, AdminCommand> Admin::commands() {
  constexpr bool kAnybody = false, kPrivileged = true, kQuick = true;
  auto shutdown = [this](const AdminCall& call) {
    call.answer(json::object());  // before the server stops: it sends what was posted first
    server_.stop();
    return AdminAnswer(json::object());
  };
  return {{"ping", command(status_, &StatusCommands::ping, kAnybody, kQuick)},
          {"status", command(status_, &StatusCommands::status, kAnybody, kQuick)},
          {"format", command(datasets_, &DatasetCommands::format, kPrivileged)},
          {"nodes", command(datasets_, &DatasetCommands::nodes, kAnybody)},
          {"mount", command(datasets_, &DatasetCommands::mount, kPrivileged)},
          {"umount", command(datasets_, &DatasetCommands::umount, kPrivileged)},
          {"refresh", command(datasets_, &DatasetCommands::refresh, kPrivileged)},
          {"warm", command(cache_, &CacheCommands::warm, kAnybody)},
          {"unpin", command(cache_, &CacheCommands::unpin, kPrivileged)},
          {"evict", command(cache_, &CacheCommands::evict, kPrivileged)},
          {"check", command(cache_, &CacheCommands::check, kPrivileged)},
          {"shutdown", {shutdown, kPrivileged, false}}};
}

}  // namespace larder
