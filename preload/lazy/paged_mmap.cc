#include "preload/lazy/paged_mmap.h"

#include <errno.h>

#include "preload/base/process_lock.h"
#include "preload/base/sys.h"
#include "preload/lazy/paged_files.h"
#include "preload/lazy/proc_maps.h"
#include "preload/lazy/uffd.h"

extern "C" {
int __register_atfork(void (*)(), void (*)(), void (*)(), void*);
extern void* __dso_handle __attribute__((visibility("hidden")));
}

namespace larder {
namespace {

constinit std::atomic<int> request_lock{0};  // ProcessLock: one request at a time
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

void simple_request(Order order) {
  if (!started.load(std::memory_order_acquire) || !pager_runs()) return;
  ProcessLock lock(request_lock);
  PagerRequest e;
  e.order = order;
  run_request(e);
}

void before_fork() {
  forks.fetch_add(1, std::memory_order_acq_rel);
  if (started.load(std::memory_order_acquire) && can_list_mappings()) simple_request(Order::kAllowFork);
}

void parent_after_fork() {
  if (forks.fetch_sub(1, std::memory_order_acq_rel) == 1) simple_request(Order::kForbidFork);
}

// No pager in the child: what it inherited must not be touched.
void unmap_inherited() {
  for_each_mapping([](const MapsEntry& m) {
    if (!m.shared && pager_knows_file(m.dev, m.inode)) sys::munmap(reinterpret_cast<void*>(m.start), m.end - m.start);
  });
}

void child_after_fork() {
  forks.store(0, std::memory_order_relaxed);
  request_lock.store(0, std::memory_order_relaxed);
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

// False: what is at the descriptor's number is not the data file any more.
bool describe(const LazyFiles& files, PagedFile* what) {
  struct stat data;
  if (sys::fstat(files.data, &data) != 0 || data.st_ino != files.map->data_inode) return false;
  what->dev = data.st_dev;
  what->inode = data.st_ino;
  what->map = files.map;
  what->map_bytes = files.map_bytes;
  return true;
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

namespace {

// The mapping without anybody who serves it: an address or -errno.
long prepare_mapping(void* at, size_t length, int flags, const LazyFiles& files, PagedFile* what, uint64_t offset) {
  if (const long r = ensure_pager(); r != 0) return r;
  return describe(files, what) ? reserve(at, length, flags, files, *what, offset) : -EIO;
}

}  // namespace

long map_paged(void* at, size_t length, int prot, int flags, uint64_t offset, const LazyFiles& files, PagedFile what) {
  const bool foreign = started.load(std::memory_order_acquire) && !pager_runs();
  if (foreign) {  // a vfork child, or one that libc does not know of
    sys::munmap(const_cast<ChunkMap*>(files.map), files.map_bytes);
    return -EAGAIN;
  }
  ProcessLock lock(request_lock);
  const long address = prepare_mapping(at, length, flags, files, &what, offset);
  if (address < 0 && address > -4096) {
    sys::munmap(const_cast<ChunkMap*>(files.map), files.map_bytes);
    return address;
  }
  const uint64_t page = paged_page();
  const PagerRequest e = {
      Order::kMap, static_cast<uint64_t>(address), (length + page - 1) & ~(page - 1), offset, what, 0};
  long r = run_request(e);
  if (r == 0 && prot != PROT_NONE) r = sys::call(SYS_mprotect, address, static_cast<long>(length), prot);
  if (r == 0 && !uffd::serves_kernel()) kernel_cannot_wait.store(true, std::memory_order_relaxed);
  if (r == 0) return address;
  sys::munmap(reinterpret_cast<void*>(address), length);
  return r;
}

constinit std::atomic<bool> kernel_cannot_wait{false};

const void* first_paged(const void* start, size_t length) {
  const auto from = reinterpret_cast<uint64_t>(start);
  const uint64_t end = length > ~from ? ~0ULL : from + length;
  return reinterpret_cast<const void*>(PagedFiles::ranges.first_in(from, end));
}

bool touch_paged(const void* start, size_t length) {
  const auto from = reinterpret_cast<uint64_t>(start);
  const uint64_t end = length > ~from ? ~0ULL : from + length, page = paged_page();
  bool any = false;
  for (uint64_t at = from; at < end;) {
    at = PagedFiles::ranges.first_in(at, end);
    if (at == 0) break;
    any = true;
    (void)*reinterpret_cast<const volatile char*>(at);
    at = (at | (page - 1)) + 1;
  }
  return any;
}

bool advise_paged(const void* start, size_t length) {
  if (!started.load(std::memory_order_acquire) || !pager_runs()) return false;
  ProcessLock lock(request_lock);
  PagerRequest e;
  e.order = Order::kAdvise;
  e.start = reinterpret_cast<uint64_t>(start);
  e.length = length;
  return run_request(e) == 0;
}

}  // namespace larder
