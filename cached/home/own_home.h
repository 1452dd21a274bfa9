// A file system of the daemon's own: tmpfs that no path leads to, known by descriptors alone.
//
//   /          whole files, huge=within_size: large folios
//   /chunks    a second tmpfs for objects that come in chunks, huge=never: a chunk takes what it holds and gives it
//   back
//
// There are two views of it, each a detached mount: one writable, for the daemon, one read-only, for programs. Every
// call that would change anything through the read-only one is EROFS, also for root and through /proc/self/fd. The
// memory is freed when the last descriptor and the last mapping of it are closed.
//
// A child process makes it: as root in a mount namespace, else in a user and mount namespace. The caller's namespaces
// stay as they are.
#pragma once
#include <cstdint>

#include "cached/base/fd.h"

namespace larder {

struct OwnHome {
  Fd writable, readable;  // roots of the two views; O_PATH
  // False: the kernel refused a second user namespace, so the read-only view lacks its lock: whoever may call
  // mount_setattr in a user namespace of their own can make it writable.
  bool locked = false;
};

// At most `bytes` (0: half of the memory) and `inodes` (0: the kernel's default) in each of the two file systems.
// EPERM, ENOSPC, ENOSYS, …: the kernel or a sandbox refuses; the message names the call.
Result<OwnHome> make_own_home(uint64_t bytes, uint64_t inodes);

}  // namespace larder
