// What a process knows: the mounts, and the mapped catalogs behind them.
//
// A State is a snapshot of control at one generation. `current` points to one of a few static States; a refresh fills a
// free one and swaps the pointer. Readers take no lock and no reference:
//
//   1. enter() returns the current State and its stamp (0: this process has no Larder).
//   2. The reader looks up and copies what it needs.
//   3. left_intact() says whether the State was still the reader's all the while; if not, it starts again.
//
// A replaced State is emptied when it has been out of use for kGraceMs, and an emptied View's address range never
// leaves the process (it is mapped over): a reader that slept through that reads stale bytes or zeros, then fails
// step 3. It cannot fault. A View that somebody holds (open directory streams) is not emptied: see View::holders.
#pragma once
#include <atomic>

#include "larder/catalog.h"
#include "larder/shm.h"
#include "preload/resolve/path_scan.h"

namespace larder {

// A range of addresses that is mapped again and again, and never given back.
struct Range {
  void* base = nullptr;
  size_t bytes = 0;
};

// One version of one dataset, mapped.
struct View {
  uint64_t dataset_id = 0;
  uint64_t version = 0;
  Catalog catalog;
  const Residency* residency = nullptr;  // null for the namespace
  uint8_t* touch = nullptr;              // may be null
  std::atomic<int> holders{0};           // directory streams that iterate it
  int users = 0;                         // States that name it (under the build lock)
  bool mapped = false;
  Range catalog_range, residency_range, touch_range;
};

inline constexpr int kStates = 16;  // that many refreshes within the grace; a State that was never used costs no memory

// What control says of a mount's dataset.
struct MountFacts {
  uint64_t dataset_id = 0;
  uint64_t dev = 0;  // st_dev of its files
  uint64_t total_bytes = 0, file_count = 0;
  Fallback fallback = Fallback::kWait;
};

struct StateMount : MountFacts {
  uint32_t path_len;
  View* view;
  char path[kMaxMountPath + 1];
};

struct State {
  std::atomic<uint64_t> stamp{0};  // odd: being filled
  bool unserved = false;  // nobody answered: the mounts are those of the mounts file, and have no views (unserved.h)
  uint64_t generation = 0;
  Head head;  // what the heads of all mount points have in common; without mounts it matches nothing
  uint32_t mount_count = 0;
  uint32_t wait_ms = 0;
  uint32_t uid = 0, gid = 0;
  uint64_t cache_dev = 0, chunks_dev = 0;
  int64_t retired_ms = 0;
  const InodeTable* inodes = nullptr;
  uint32_t inode_mask = 0;
  View* ns = nullptr;           // mount points and the folders above them; null without mounts
  uint32_t ancestor_count = 0;  // mount points and folders above them that really exist, as seen by this process
  uint32_t covered_count = 0;   // how many of them are mount points
  struct {
    uint64_t dev, ino;
    uint32_t entry;
  } ancestors[kMaxMounts * 2];
  StateMount mounts[kMaxMounts];

  // What the kernel's device and inode numbers are in the inode table; null: nothing of ours.
  const InodeSlot* slot_of(uint64_t dev, uint64_t inode) const {
    const uint64_t key = inode_key(cache_dev, chunks_dev, dev, inode);
    return key != 0 && inodes != nullptr ? inodes->find(key, inode_mask) : nullptr;
  }
};

// How the current directory lies to the mounts: decides whether a relative path without ".." can be ours.
enum class CwdClass : int { kUnknown = 0, kOutside = 1, kMayReach = 2 };

// What hot paths read, in one place. Everything else is behind functions.
struct Process {
  std::atomic<State*> current{nullptr};
  std::atomic<const Control*> control{nullptr};
  std::atomic<int> root_fd{-1};  // the cache directory (O_PATH); may have been closed or replaced by the program
  std::atomic<uint64_t> root_dev{0}, root_inode{0};  // what root_fd was when it was opened
  std::atomic<int> cwd{0};                           // CwdClass; a hint that chdir and vfork children reset to kUnknown
  std::atomic<StatSlot*> stat_slots{nullptr};
  std::atomic<int> pid{0};           // 0 before the constructor; kept right by an atfork handler
  std::atomic<bool> tried{false};    // attach was tried at least once
  bool whole_mappings = false;       // LARDER_MAPPINGS=whole: mmap makes a lazy object whole first
  std::atomic<bool> handles{false};  // a lazy object was read: close() looks whether it is a handle that is closed
};
extern Process process;

struct Session {
  State* state;
  uint64_t stamp;
};

// Slow: greets the daemon if that has not happened, or again if control moved. Returns the state to use, or null.
State* moved_state();

// The current State, if there is one and control has not moved since.
inline State* unmoved_state() {
  State* s = process.current.load(std::memory_order_acquire);
  if (__builtin_expect(s == nullptr, 0)) return nullptr;
  const Control* c = process.control.load(std::memory_order_relaxed);
  return __builtin_expect(c->generation.load(std::memory_order_relaxed) == s->generation, 1) ? s : nullptr;
}

// The current State. Null: no daemon, nothing is ours.
inline State* current_state() {
  State* s = unmoved_state();
  return __builtin_expect(s != nullptr, 1) ? s : moved_state();
}

inline bool left_intact(const Session& s) {
  std::atomic_thread_fence(std::memory_order_acquire);
  return s.state->stamp.load(std::memory_order_relaxed) == s.stamp;
}

inline bool enter(Session* out) {
  State* s = current_state();
  if (s == nullptr) return false;
  *out = {s, s->stamp.load(std::memory_order_acquire)};
  return true;
}

// Reads the environment, finds the real functions and remembers whose process this is. Called once, by the library's
// constructor (preload/wrap/startup.cc); until then every intercepted call goes straight to the kernel.
void start_process();

// The program's process: false in a vfork child, which shares our memory but not our process. Costs a system call.
bool own_process();

// Tries to attach once more, at most once a second; for a program that was started before its daemon.
bool attach_late();

// After a reply of larderd: if it has another cache directory than the one that is mapped (a node's folder was removed;
// a private keeper was killed), the next path call greets again.
void note_answer();

// The State is unserved, and a path in one of its mounts is wanted: waits for larderd for up to `wait_ms`. 0: another
// State is current. EIO: nobody came; said once on stderr. EMFILE, ENFILE: this process has no descriptor to ask with.
int await_daemon(uint32_t wait_ms, Fallback fallback, const char* path);

// What a call fails with that did not find a path: `error`, unless this process never had a descriptor to ask larderd
// with, so that nobody knows whether the path is in a dataset.
int error_of_missing(int error);

// The cache directory was lost (closed or replaced by the program): greet again for a new descriptor.
void reopen_root(int lost_fd);

// True if the descriptor is (still) that of the cache directory. One system call.
bool is_cache_root(int fd);

// Adds to this process's slot of the statistics.
inline void count(std::atomic<uint64_t> StatSlot::*counter, uint64_t n = 1) {
  StatSlot* slots = process.stat_slots.load(std::memory_order_relaxed);
  if (slots == nullptr) return;
  StatSlot& slot = slots[static_cast<uint32_t>(process.pid.load(std::memory_order_relaxed)) % kStatSlots];
  (slot.*counter).fetch_add(n, std::memory_order_relaxed);
}

}  // namespace larder
