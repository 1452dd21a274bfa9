#include "cached/requests/runs.h"

#include <poll.h>
#include <sys/syscall.h>

#include <algorithm>

namespace larder {

static bool has_ended(const Fd& pidfd) {
  struct pollfd p = {pidfd.get(), POLLIN, 0};
  return ::poll(&p, 1, 0) > 0;
}

void Runs::add(pid_t pid) {
  if (pid <= 0) return;
  Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd.valid()) return;
  MutexLock lock(mutex_);
  std::erase_if(processes_, [&](const auto& p) { return p.first == pid || has_ended(p.second); });
  processes_.emplace_back(pid, std::move(pidfd));
}

bool Runs::alive() {
  MutexLock lock(mutex_);
  std::erase_if(processes_, [](const auto& p) { return has_ended(p.second); });
  return !processes_.empty();
}

}  // namespace larder
