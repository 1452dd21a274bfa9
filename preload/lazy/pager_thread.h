// A thread unknown to libc: it has no TLS of its own (it must not touch errno or other libc state there), its own
// descriptor table, and all signals blocked.
#pragma once
#include <stdint.h>

#include <atomic>

namespace larder {

// A stack with a guard below it: its upper end, or null.
char* make_stack(unsigned long bytes);

// Starts entry(), which must not return, on that stack. `gone` holds the thread's id until it ends, then 0. The thread
// id or -errno.
long spawn_thread(void (*entry)(), char* stack_end, std::atomic<int>* gone);

// The thread calls it first: leaves the program's descriptor table and keeps nothing of it. 0 or -errno.
int leave_descriptors();

// Waits until *word is not `value`, at most that long; may wake spuriously.
void futex_wait(const std::atomic<uint32_t>* word, uint32_t value, int timeout_ms);
void futex_wake(const std::atomic<uint32_t>* word);

}  // namespace larder
