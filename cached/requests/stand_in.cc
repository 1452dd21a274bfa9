#include "cached/requests/stand_in.h"

#include "cached/base/files.h"
#include "cached/base/log.h"

namespace larder {

void StandIn::update() {
  MutexLock lock(mutex_);
  if (p_.keeper) store_greeting_locked();
  Status written = replace_volatile_file(p_.mounts_file, p_.publisher.control_bytes(), p_.is_private ? 0600 : 0644);
  if (!written && !failed_)
    spdlog::warn("{}; programs that start while larderd is away do not know the mounts", written.error().message);
  failed_ = !written;
}

// As ProgramRequests::hello() answers whoever is in no group of a restricted dataset.
void StandIn::store_greeting_locked() {
  const HelloView view = p_.publisher.hello();
  std::vector<int> fds = {p_.dir.handle().get(), p_.publisher.stats_fd().get()};
  for (const MountView& m : view.mounts)
    fds.push_back(m.group ? null_.get() : m.version->touch().get());
  Reply reply = {};
  reply.magic = kWireMagic;
  reply.version = kWireVersion;
  reply.op = Op::kHello;
  reply.generation = view.generation;
  reply.instance = p_.publisher.instance();
  reply.fd_count = static_cast<uint32_t>(fds.size());
  p_.keeper->store_greeting(reply, p_.is_private ? ::geteuid() : kAnyUid, fds);
}

}  // namespace larder
