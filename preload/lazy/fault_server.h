// What answers a page fault: the pages that threads of the program wait for, and the showing of them.
//
// The pager's thread alone calls these, but for start(), which runs before there is a thread. No locks, no heap,
// nothing of libc's. PagedFiles::ranges says what is mapped where; these keep it true.
#pragma once
#include <stdint.h>

#include "preload/lazy/proc_maps.h"

namespace larder::fault_server {

// Forgets what waits and what is mapped.
void start();

// Takes what the kernel reports: faults, and mappings that went or moved. Does not wait.
void read_messages();

// The same, and waits while mappings change. PagedFiles::ranges then holds what was true at some time since the call.
void settle();

// True if a fault has not been looked at yet.
bool has_new_faults();

// Shows the pages of new faults, or asks for their chunks, or gives up on them.
void serve_faults();

// A ChunkFetches::Ended: those who wait for the chunk are looked at again, or given up on.
void fetch_ended(uint32_t file, uint32_t chunk, bool arrived);

// Which of PagedFiles, or -1. A shared mapping is the kernel's own, of a file that has become whole and was mapped
// before as well.
int file_of(const MapsEntry& m);

}  // namespace larder::fault_server
