// The pager: one thread a process that makes the pages of mapped lazy files appear. docs/data_path.md, "A mapping of a
// lazy object".
//
// A mapping of a lazy file is a private one of its data file, registered with userfaultfd: what a page shows is decided
// here, page by page, and never by what happens to be in the data file. A page becomes visible (UFFDIO_CONTINUE) only
// while the word of its chunk says PRESENT before and after, so pages that larderd is just writing, or that a stranger
// made, are not shown. Kernels without minor faults for shared memory (before 5.14) show a page once it exists.
//
// Promises, in order:
//  1. A page that a program sees has the object's bytes, or the access ends in SIGBUS (SIGSEGV before Linux 6.6).
//  2. Nothing of the pager is in the program's descriptor table, and closing descriptors cannot end it. A lost
//     registration would show holes as zeros, so it lives until the process ends or calls exec.
//  3. The pager waits for no thread of the program, takes no lock, and uses no heap and no state of libc.
//
// The program's threads send it one request at a time (paged_mmap.cc holds the lock).
#pragma once
#include <atomic>

#include "larder/chunks.h"

namespace larder {

struct PagedFile {
  uint64_t dataset_id = 0;
  uint64_t handle_inode = 0;
  uint64_t dev = 0, inode = 0;    // of the data file
  const ChunkMap* map = nullptr;  // a mapping that the pager takes over
  uint64_t map_bytes = 0;
  uint32_t wait_ms = 0;  // how long a fault may take
  bool hasty = false;    // a fault fails at once while larderd is away
};

enum class Order : uint32_t {
  kMap,         // [start, start + length) shows `file` from `offset` on: serve it from now on
  kAllowFork,   // a child of fork gets the mappings ...
  kForbidFork,  // ... it does not
  kAdvise,      // [start, start + length) will be read
};

struct PagerRequest {
  Order order = Order::kMap;
  uint64_t start = 0, length = 0, offset = 0;
  PagedFile file;
  long result = 0;  // 0 or -errno
};

// Starts the pager of this process: 0 or -errno (ENOSYS, EPERM: userfaultfd is refused). `adopt`: this is a fork's
// child, and the mappings that it inherited are served before this returns.
long start_pager(bool adopt);

// True if this process has a pager. False in a vfork child, which shares the memory but not the process.
bool pager_runs();

// True if the pager is needed: a file was mapped and is not known to be unmapped.
bool pager_has_files();

// True if these numbers are those of a mapped file.
bool pager_knows_file(uint64_t dev, uint64_t inode);

// Bytes of a page.
uint64_t paged_page();

// Waits until the pager has served it. Call it with signals blocked, one at a time.
long run_request(const PagerRequest& request);

// Called by the pager between its look at a chunk's word and the showing of the page, with the page's place in the
// file: for tests have something changed just then, by another thread: the pager has no descriptors, and nothing of
// libc's.
extern std::atomic<void (*)(uint64_t offset)> pager_about_to_show;

// Called by the pager whenever it gives up.
extern std::atomic<void (*)()> pager_gave_up;

}  // namespace larder
