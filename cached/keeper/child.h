// One larderd after another: starting it, and telling how it ended.
#pragma once
#include <stdint.h>
#include <sys/types.h>

#include "cached/keeper/descriptors.h"

namespace larder::keeper {

// What is started, and with what. The keeper's own environment and stderr, until a kLaunch brings others.
struct Launch {
  char** argv = nullptr;
  int environment = -1;  // a file of texts, each ended by a NUL
  int log = -1;          // becomes stdout and stderr
};

// What larderd learns at its start besides: see include/larder/keeper.h.
struct History {
  char last_end[160] = "";  // "" : there was none, or it ended in order
  uint64_t restarts = 0;
};

// Starts larderd: `passed` and, under the names of the last two, the listening socket and the channel become its
// descriptors from 3 on; `notify_address` ("@...") its NOTIFY_SOCKET. It dies with the keeper. Its pid, or -1 (logged).
pid_t start_child(const Launch& launch, const Descriptors& passed, int listener, int channel,
                  const char* notify_address, const History& history);

// Processes that the kernel has killed for want of memory in this control group; 0 where it does not say.
uint64_t oom_kills();

// "was killed by signal 9 (Killed), out of memory", "ended with status 1".
void describe_end(int status, bool out_of_memory, char* text, size_t size);

}  // namespace larder::keeper
