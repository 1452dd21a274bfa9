// Shared memory besides the catalog: control, residency, inode table, touch, stats. Drawings: docs/shared_memory.md.
//
// The cache directory (one tmpfs directory a daemon; programs get one descriptor of it). include/larder/names.h spells
// its names:
//
//   control                   Control, mapped read-only by programs
//   presence                  one page that programs map and nobody keeps open: fcntl(F_SETLEASE, F_WRLCK) on it fails
//                             while any process has it mapped, so the kernel tells whether a program is left
//   inodes.<id>               InodeTable
//   <ns>/                     namespace folder (kNamespaceFolder): catalog.<version>, m/<hash> mirror directories
//   <dataset id>/             a dataset's folder (16 hex digits); its mode is how a group restriction is enforced
//       catalog.<version>     include/larder/catalog.h
//       residency.<version>   Residency
//       m/<hash>              mirror directories: one real, empty directory for a directory that a program opened
//       l/                    lazy objects, but for their bytes: include/larder/chunks.h
//       <object id>           cache files (32 hex digits), mode 0444, whole, mtime = the object's Last-Modified
//   chunks/                   a file system of its own if the cache is the daemon's own memory
//       <dataset id>/         the bytes of lazy objects, and of those that have become whole: chunks.h
//   tmp/                      what the daemon is still making
//
// All numbers are little-endian, all files are made by the daemon. "Read-only" means that programs hold O_RDONLY
// descriptors; a program of the daemon's own user (or root) could open them again for writing, as it could kill the
// daemon.
#pragma once
#include <atomic>
#include <cstdint>

#include "larder/hash.h"

namespace larder {

// ---- control -------------------------------------------------------------------------------------------------------
//
// Invariants:
//  1. generation is even while the rest is stable. The daemon makes it odd, changes the rest, and makes it even again
//     (a seqlock). A reader copies what it needs and starts again if generation moved. It never goes back, not even
//     over restarts.
//  2. magic, format, instance, cache_dev, chunks_dev never change in the life of the file.
//  3. mounts[0 .. mount_count) are sorted by path length, longest first: the first prefix that matches is the mount.
//  4. For every mount, <dataset>/catalog.<version> and residency.<version> exist before generation names them. The
//     files of an older version are unlinked afterwards; a process that has them mapped keeps them.
//
// Version history: 1 first; 2 chunks_dev, and the bytes of lazy objects lie in chunks/.

inline constexpr uint64_t kControlMagic = 0x314c525443444c4cULL;  // "LLDCTRL1"
inline constexpr uint32_t kControlFormat = 2;
inline constexpr uint32_t kMaxMounts = 60;
inline constexpr uint32_t kMaxMountPath = 511;

// What a program does when the daemon does not answer (option `fallback`).
enum class Fallback : uint32_t {
  kWait = 0,    // try again until wait_ms, then EIO
  kOrigin = 1,  // the mount covers the same files on a real file system: open those
  kError = 2,   // EIO at once
};

struct ControlMount {
  uint64_t dataset_id;
  uint64_t version;      // current version of the dataset
  uint64_t total_bytes;  // for statfs
  uint64_t file_count;
  Fallback fallback;
  uint32_t path_len;
  char path[kMaxMountPath + 1];  // absolute, normalised, no trailing slash; never "/"
  uint64_t reserved[2];
};
static_assert(sizeof(ControlMount) == 568);

struct Control {
  uint64_t magic;
  uint32_t format;
  uint32_t bytes;  // sizeof(Control)
  std::atomic<uint64_t> generation;
  uint64_t instance;           // random; names this cache directory
  uint64_t cache_dev;          // st_dev of the cache directory
  uint64_t epoch;              // counts the daemons that took this directory over
  uint64_t inode_table;        // inodes.<16 hex digits>
  uint64_t namespace_version;  // ns/catalog.<16 hex digits>; 0: no mounts
  uint32_t uid;                // owner that stat reports for everything
  uint32_t gid;
  uint32_t wait_ms;  // longest that a program waits for the daemon
  uint32_t mount_count;
  uint64_t chunks_dev;  // st_dev of chunks/; may be cache_dev
  uint64_t reserved[7];
  ControlMount mounts[kMaxMounts];
};
static_assert(sizeof(Control) == 144 + kMaxMounts * sizeof(ControlMount));
static_assert(std::atomic<uint64_t>::is_always_lock_free);

// ---- residency -----------------------------------------------------------------------------------------------------
//
// One word an entry of the catalog of the same version. Written by the daemon alone.
//  1. RESIDENT is stored (release) after the cache file is whole and linked under its object id, and its inode is in
//     the inode table. A reader loads it (acquire) before it opens the file.
//  2. The daemon stores ABSENT before it unlinks a cache file. A reader that read RESIDENT a moment before gets ENOENT
//     from openat and takes the miss path. A cache file is never truncated, written or punched after it is linked.
//  3. LAZY: the object has a handle and a chunk map (include/larder/chunks.h); some of it may be there.

inline constexpr uint64_t kResidencyMagic = 0x31534552444c4c4cULL;
inline constexpr uint32_t kResidencyFormat = 1;
inline constexpr uint32_t kStateMask = 3;
inline constexpr uint32_t kAbsent = 0;
inline constexpr uint32_t kResident = 1;
inline constexpr uint32_t kLazy = 2;

struct Residency {
  uint64_t magic;
  uint32_t format;
  uint32_t entry_count;
  uint64_t dataset_id;
  uint64_t version;
  uint64_t reserved[4];
  std::atomic<uint32_t> words[];  // low 2 bits: state; the rest: generation, +1 with every change
};
static_assert(sizeof(Residency) == 64);
inline constexpr uint64_t residency_bytes(uint32_t entries) {
  return sizeof(Residency) + uint64_t{entries} * 4;
}

// ---- inode table ---------------------------------------------------------------------------------------------------
//
// From the real inode number of a cache file or mirror directory to what it stands for. tmpfs numbers inodes in
// sequence, so the number itself is the hash: used pages stay dense in a large sparse file. Those of chunks/, if that
// is another file system, have the highest bit set, which no real number has.
//  1. A slot is filled value first, real_inode last (release). It is emptied (kTombstone) only when nobody can have the
//     file open. So a miss means "not a cache file", unless control names a newer table.
//  2. At most half of the slots are used, tombstones included; a larger table is a new file and a new generation.

inline constexpr uint64_t kInodeTableMagic = 0x31424154494c4c4cULL;
inline constexpr uint32_t kInodeTableFormat = 1;
inline constexpr uint64_t kTombstone = ~0ULL;
inline constexpr uint64_t kChunksInode = 1ULL << 63;

// The number that a file has in the table; 0: it is on neither of the cache's file systems.
inline uint64_t inode_key(uint64_t cache_dev, uint64_t chunks_dev, uint64_t dev, uint64_t inode) {
  if (dev == cache_dev) return inode;
  return dev == chunks_dev ? inode | kChunksInode : 0;
}

enum class InodeKind : uint32_t {
  kFile = 1,
  kDirectory = 2,
  kNamespaceDirectory = 3,
  kLazyObject = 4,  // the handle of a lazy object: a directory that programs see as a file (chunks.h)
};

struct InodeSlot {
  std::atomic<uint64_t> real_inode;  // 0: empty
  uint64_t inode;                    // virtual inode number (directory: path hash)
  uint64_t dataset_id;
  InodeKind kind;
  uint32_t reserved;
};
static_assert(sizeof(InodeSlot) == 32);

struct InodeTable {
  uint64_t magic;
  uint32_t format;
  uint32_t slot_count;  // power of two
  uint64_t reserved[6];
  InodeSlot slots[];

  // The slot of a real inode number, or null.
  const InodeSlot* find(uint64_t real, uint32_t mask) const {
    for (uint32_t s = static_cast<uint32_t>(real) & mask, n = 0; n <= mask; s = (s + 1) & mask, ++n) {
      uint64_t k = slots[s].real_inode.load(std::memory_order_acquire);
      if (k == real) return &slots[s];
      if (k == 0) return nullptr;
    }
    return nullptr;
  }
};
static_assert(sizeof(InodeTable) == 64);
inline constexpr uint64_t inode_table_bytes(uint32_t slots) {
  return sizeof(InodeTable) + uint64_t{slots} * sizeof(InodeSlot);
}

// ---- touch and stats -----------------------------------------------------------------------------------------------
//
// Sealed memfds that programs may write: a hostile program can spoil a heuristic, never data.
// touch: one byte an entry of a dataset version, set to 1 by the program that opened it.
// stats: kStatSlots slots; a process adds to slot (pid % kStatSlots), relaxed, and the daemon sums them.

inline constexpr uint32_t kStatSlots = 256;

struct alignas(64) StatSlot {
  std::atomic<uint64_t> warm_opens;  // opens served without a message
  std::atomic<uint64_t> warm_bytes;  // sizes of those files
  std::atomic<uint64_t> miss_opens;  // opens that asked the daemon
  std::atomic<uint64_t> stats;       // stat-like calls served
  std::atomic<uint64_t> lists;       // directories listed
  std::atomic<uint64_t> errors;      // calls ended with EIO or ESTALE by Larder
  uint64_t reserved[2];
};
static_assert(sizeof(StatSlot) == 64);

}  // namespace larder
