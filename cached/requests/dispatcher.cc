#include "cached/requests/dispatcher.h"

#include <fmt/format.h>

#include "cached/base/files.h"
#include "cached/base/version.h"

namespace larder {

using nlohmann::json;

Dispatcher::Dispatcher(std::map<std::string, AdminCommand> commands, AdminCall::MayAdminister may_administer)
    : commands_(std::move(commands)), may_administer_(std::move(may_administer)) {}

void Dispatcher::stop() {
  stopping_ = true;
  for (ThreadPool& lane : lanes_)
    lane.stop();
}

void Dispatcher::handle(IncomingRequest r) {
  json args = json::parse(r.payload, nullptr, false);
  if (!args.is_object() || !args.contains("op") || !args["op"].is_string())
    return send_answer(*r.reply, make_error(EINVAL, "the request is not a JSON object with a string \"op\""));
  std::string name = args["op"].get<std::string>();
  auto found = commands_.find(name);
  if (found == commands_.end())
    return send_answer(*r.reply, make_error(ENOSYS, fmt::format("larderd {} does not know \"{}\"; use the larder "
                                                                "command of the same version",
                                                                kVersion, shown(name))));
  const AdminCommand& command = found->second;
  auto call = std::make_shared<AdminCall>(std::move(args), std::move(r.peer), r.reply, stopping_, may_administer_);
  if (!lanes_[static_cast<int>(command.lane)].run([this, call, name, &command] { run(name, command, *call); }))
    send_answer(*r.reply, make_error(EAGAIN, "larderd is busy with other requests; try again"));
}

void Dispatcher::run(const std::string& name, const AdminCommand& command, const AdminCall& call) {
  if (command.privileged && !call.may_administer())
    return call.answer(
        make_error(EPERM, fmt::format("{} requires root, the daemon's user or a member of admin_group", name)));
  const bool counts = command.lane != Lane::kQuick;
  if (counts) ++running_;
  call.answer(command.run(call));
  if (counts) --running_;
}

}  // namespace larder
