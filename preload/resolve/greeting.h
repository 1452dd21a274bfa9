// The first words with the daemon: what a process gets to see the datasets by.
#pragma once
#include "larder/wire.h"

namespace larder {

// Descriptors of the cache directory and, from the daemon, of the statistics and one touch file a mount, in control's
// order. They are the caller's to close, with close_greeting().
struct Greeting {
  int root = -1;
  int fds[kMaxHelloFds];
  int count = 0;
  uint64_t generation = 0;  // of control, when it was answered; 0: attached without the daemon
};

// LARDER_CACHE, which finds the cache while the daemon is down. Called once, by the constructor; null: not set.
void configure_cache(const char* path);

// Asks the daemon, else opens the cache directory by its path: cached files stay readable. False: neither is there.
bool greet(Greeting* g);
void close_greeting(Greeting* g);

// The same descriptor at a number above those that shells and programs count on, below those that make fork copy a
// larger table. -errno if there is none.
int park(int fd);

}  // namespace larder
