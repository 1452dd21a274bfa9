#include "preload/lazy/paged_mmap.h"

#include <errno.h>

#include "preload/base/process_lock.h"
#include "preload/base/sys.h"
#include "preload/lazy/proc_maps.h"

extern "C" {
int __register_atfork(void (*)(), void (*)(), void (*)(), void*);
extern void* __dso_handle __attribute__((visibility("hidden")));
}

namespace larder {
namespace {

constinit std::atomic<int> errand_lock{0};   // ProcessLock: one errand at a time
constinit std::atomic<int> forks{0};         // between their prepare and parent handlers
constinit std::atomic<bool> started{false};  // once: the rest of this file costs a load for who maps nothing
constinit long refused = 0;                  // -errno of userfaultfd, for good

// ---- fork -----------------------------------------------------------------------------------------------------------
// A child has no registration, and an absent page that it touches would be zeros. So mappings are MADV_DONTFORK (a
// child that libc does not know of faults loudly), but for the moment of a fork whose child will be served by a pager
// of its own.

// Without the kernel's list of mappings the child could not tell what it has got.
bool can_list_mappings() {
  sys::Fd fd(sys::openat(AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC));
  return fd.get() >= 0;
}

void simple_errand(Order order) {
  if (!started.load(std::memory_order_acquire) || !pager_runs()) return;
  ProcessLock lock(errand_lock);
  Errand e;
  e.order = order;
  run_errand(e);
}

void before_fork() {
  forks.fetch_add(1, std::memory_order_acq_rel);
  if (started.load(std::memory_order_acquire) && can_list_mappings()) simple_errand(Order::kAllowFork);
}

void parent_after_fork() {
  if (forks.fetch_sub(1, std::memory_order_acq_rel) == 1) simple_errand(Order::kForbidFork);
}

// No pager in the child: what it inherited must not be touched.
void unmap_inherited() {
  for_each_mapping([](const Mapping& m) {
    if (!m.shared && pager_knows_file(m.dev, m.inode)) sys::munmap(reinterpret_cast<void*>(m.start), m.end - m.start);
  });
}

void child_after_fork() {
  forks.store(0, std::memory_order_relaxed);
  errand_lock.store(0, std::memory_order_relaxed);
  if (!started.load(std::memory_order_relaxed)) return;
  started.store(false, std::memory_order_relaxed);
  if (!pager_has_files()) return;
  sys::SignalGuard signals;
  if (start_pager(true) != 0)
    unmap_inherited();
  else
    started.store(true, std::memory_order_release);
}

__attribute__((constructor)) void watch_forks() {
  __register_atfork(before_fork, parent_after_fork, child_after_fork, &__dso_handle);
}

// ---- mmap -----------------------------------------------------------------------------------------------------------

// Under the lock.
long ensure_pager() {
  if (refused != 0) return refused;
  if (started.load(std::memory_order_acquire)) return 0;
  const long r = start_pager(false);
  if (r == 0)
    started.store(true, std::memory_order_release);
  else if (r == -ENOSYS || r == -EPERM || r == -EACCES)
    refused = r;
  return r;
}

long describe(const LazyFiles& files, PagedFile* what) {
  struct stat data, map;
  if (sys::fstat(files.data, &data) != 0 || sys::fstat(files.map, &map) != 0) return -EIO;
  if (map.st_size < static_cast<long>(sizeof(ChunkMap))) return -EIO;
  void* shown = sys::mmap(nullptr, static_cast<size_t>(map.st_size), PROT_READ, MAP_SHARED, files.map, 0);
  if (shown == nullptr) return -ENOMEM;
  what->dev = data.st_dev;
  what->inode = data.st_ino;
  what->map = static_cast<const ChunkMap*>(shown);
  what->map_bytes = static_cast<uint64_t>(map.st_size);
  if (what->map->magic == kChunkMapMagic && what->map_bytes >= chunk_map_bytes(what->map->chunk_count) &&
      static_cast<uint64_t>(data.st_size) == what->map->size && what->map->data_inode == what->inode) {
    return 0;
  }
  sys::munmap(shown, what->map_bytes);
  return -EIO;
}

// The mapping, out of everybody's reach: PROT_NONE keeps other threads (and mlockall's populating) off until it is
// served.
long reserve(void* at, size_t length, int flags, const LazyFiles& files, const PagedFile& what, uint64_t offset) {
  const int kept = flags & ~(MAP_TYPE | MAP_POPULATE);
  const long r = sys::call(SYS_mmap, sys::arg(at), static_cast<long>(length), PROT_NONE, kept | MAP_PRIVATE, files.data,
                           static_cast<long>(offset));
  if (r < 0 && r > -4096) return r;
  struct stat st;  // another thread may have put a file of the program's there before it was mapped
  const bool ours = sys::fstat(files.data, &st) == 0 && st.st_ino == what.inode && st.st_dev == what.dev;
  const long e = ours ? sys::call(SYS_madvise, r, static_cast<long>(length), MADV_DONTFORK) : -EIO;
  if (e == 0) return r;
  sys::munmap(reinterpret_cast<void*>(r), length);
  return e;
}

}  // namespace

long map_paged(void* at, size_t length, int prot, int flags, uint64_t offset, const LazyFiles& files, PagedFile what) {
  if (started.load(std::memory_order_acquire) && !pager_runs())
    return -EAGAIN;  // a vfork child, or one that libc does not know of
  ProcessLock lock(errand_lock);
  if (const long r = ensure_pager()) return r;
  if (const long r = describe(files, &what)) return r;
  const long address = reserve(at, length, flags, files, what, offset);
  long r = address;
  if (address >= 0) {
    const uint64_t page = paged_page();
    const Errand e = {Order::kMap, static_cast<uint64_t>(address), (length + page - 1) & ~(page - 1), offset, what, 0};
    r = run_errand(e);
    if (r == 0 && prot != PROT_NONE) r = sys::call(SYS_mprotect, address, static_cast<long>(length), prot);
    if (r != 0) sys::munmap(reinterpret_cast<void*>(address), length);
  } else {
    sys::munmap(const_cast<ChunkMap*>(what.map), what.map_bytes);
  }
  return r == 0 ? address : r;
}

bool advise_paged(const void* start, size_t length) {
  if (!started.load(std::memory_order_acquire) || !pager_runs()) return false;
  ProcessLock lock(errand_lock);
  Errand e;
  e.order = Order::kAdvise;
  e.start = reinterpret_cast<uint64_t>(start);
  e.length = length;
  return run_errand(e) == 0;
}

}  // namespace larder
