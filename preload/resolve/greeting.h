// The greeting: the descriptors that give a process access to the datasets.
#pragma once
#include "larder/wire.h"

namespace larder {

// Descriptors of the cache directory and, from the daemon, of the statistics and one touch file a mount, in control's
// order. The caller closes them with close_greeting().
struct Greeting {
  int root = -1;
  int fds[kMaxHelloFds];
  int count = 0;
  uint64_t generation = 0;  // of control, when it was answered
};

// Asks the daemon, or the keeper that answers for it. 0, or why there is no answer: an errno as of exchange(), EIO if
// it refused.
int greet(Greeting* g);
void close_greeting(Greeting* g);

// Moves a descriptor to a number above those that shells and programs use and below those that make fork copy a larger
// table. -errno if none is free.
int park(int fd);

}  // namespace larder
