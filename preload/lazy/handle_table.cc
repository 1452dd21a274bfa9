#include "preload/lazy/handle_table.h"

#include <unistd.h>

#include "preload/base/process_lock.h"
#include "preload/base/sys.h"
#include "preload/lazy/lazy_files.h"
#include "preload/resolve/greeting.h"

namespace larder {
namespace {

constexpr uint32_t kSlots = 128;     // lazy objects that a process has open files of; more take turns
constexpr uint32_t kMostWhole = 16;  // whole objects that a process keeps open, so that they are not evicted
constexpr uint32_t kTurns = 2;  // then a reader whose place others take again and again opens the object for itself

// A direct-mapped table. A slot is read without a lock: its stamp is odd while it is filled, and another one
// afterwards.
struct Slot {
  std::atomic<uint32_t> stamp{0};
  uint64_t handle_inode = 0;
  uint64_t dataset_id = 0;
  int data_fd = -1;
  long cookie = 0;  // data_fd's position, which tells whether it still is ours
  const ChunkMap* map = nullptr;
  Range range;  // that shows the map; stays mapped for ever, grows by a new one
};
constinit Slot slots[kSlots] = {};
constinit std::atomic<int> fill_lock{0};  // ProcessLock: of whoever fills a slot or lets it go

Slot& slot_of(uint64_t handle_inode) {
  return slots[(handle_inode ^ handle_inode >> 7) % kSlots];
}

// ---- descriptors of ours ------------------------------------------------------------------------

// Above the numbers that programs count on. Takes the descriptor over.
int parked(int fd) {
  if (fd < 0) return fd;
  const int high = park(fd);
  if (high < 0) return fd;
  sys::close(fd);
  return high;
}

// A descriptor of ours has a position that nobody else's has: one lseek tells what fstat would (0.2 us, not 0.4), and
// pread does not look at it. Of 2^60 places past the end of any object.
long cookie_of(uint64_t dev, uint64_t handle_inode, uint64_t data_inode) {
  const uint64_t mixed =
      (handle_inode * 0x9e3779b97f4a7c15ULL) ^ (data_inode * 0xc2b2ae3d27d4eb4fULL) ^ (dev * 0x165667b19e3779f9ULL);
  return static_cast<long>(1ULL << 61 | mixed >> 4);
}
bool is_ours(int fd, long cookie) {
  return sys::lseek(fd, 0, SEEK_CUR) == cookie;
}

// Gives a freshly opened data file that position. False: another thread has put a file of the program's there
// meanwhile. That one is not at 0, or not the data file; it is left where it was, and its descriptor is not ours to
// close.
bool make_ours(int fd, long cookie, uint64_t dev, uint64_t inode) {
  struct stat st;
  const long at = sys::lseek(fd, cookie, SEEK_CUR);
  if (at == cookie && sys::fstat(fd, &st) == 0 && st.st_ino == inode && st.st_dev == dev) return true;
  if (at >= 0) sys::lseek(fd, -cookie, SEEK_CUR);
  return false;
}

// ---- the table ----------------------------------------------------------------------------------

bool is_whole(const Slot& s) {
  return s.map != nullptr && s.map->whole.load(std::memory_order_acquire) != 0;
}

// Closes a slot's descriptor, if it still is what the slot says.
void let_go(Slot& s) {
  const int fd = s.data_fd;
  s.data_fd = -1;
  if (fd >= 0 && is_ours(fd, s.cookie)) sys::close(fd);
}

// Whole objects cannot be evicted while we have them open. Under the lock; how many are left is for the caller to think
// of.
void let_go_whole() {
  for (Slot& s : slots) {
    if (s.data_fd < 0 || !is_whole(s)) continue;
    s.stamp.fetch_add(1, std::memory_order_acq_rel);
    let_go(s);
    s.stamp.fetch_add(1, std::memory_order_release);
  }
}

uint32_t whole_count() {
  uint32_t n = 0;
  for (const Slot& s : slots)
    n += s.data_fd >= 0 && is_whole(s);
  return n;
}

int try_fill(Slot& s, uint64_t dataset_id, uint64_t handle_inode, uint64_t dev) {
  LazyFiles files;
  s.map = nullptr;
  const int error = try_open_lazy_files(dataset_id, handle_inode, dev, &s.range, &files);
  if (error != 0) return error;
  const int data = parked(files.data);
  s.map = files.map;
  s.cookie = cookie_of(dev, handle_inode, s.map->data_inode);
  if (!make_ours(data, s.cookie, dev, s.map->data_inode)) return -EAGAIN;
  s.data_fd = data;
  s.dataset_id = dataset_id;
  s.handle_inode = handle_inode;
  return 0;
}

int fill_once(Slot& s, uint64_t dataset_id, uint64_t handle_inode, uint64_t dev) {
  ProcessLock lock(fill_lock);
  const bool there = s.handle_inode == handle_inode && s.data_fd >= 0 && is_ours(s.data_fd, s.cookie);
  if (there) return 0;  // another thread did it
  if (whole_count() >= kMostWhole) let_go_whole();
  s.stamp.fetch_add(1, std::memory_order_acq_rel);
  let_go(s);
  s.handle_inode = 0;
  const int r = try_fill(s, dataset_id, handle_inode, dev);
  s.stamp.fetch_add(1, std::memory_order_release);
  return r;
}

// Fills the slot of a handle. 0 or -errno as until_opened().
int fill(uint64_t dataset_id, uint64_t handle_inode) {
  const uint64_t dev = patience(dataset_id).chunks_dev;
  return until_opened(dataset_id, handle_inode,
                      [&] { return fill_once(slot_of(handle_inode), dataset_id, handle_inode, dev); });
}

void describe(const ChunkMap* map, uint64_t dataset_id, uint64_t handle_inode, Lazy* out) {
  out->handle_inode = handle_inode;
  out->dataset_id = dataset_id;
  out->map = map;
  out->size = map->size;
  out->mtime_ns = map->mtime_ns;
  out->chunk_shift = map->chunk_shift;
  out->chunk_count = map->chunk_count;
  out->oid = map->oid;
}

bool read_slot(const Slot& s, uint64_t handle_inode, Lazy* out) {
  const uint32_t stamp = s.stamp.load(std::memory_order_acquire);
  if ((stamp & 1) || s.handle_inode != handle_inode || s.map == nullptr) return false;
  describe(s.map, s.dataset_id, handle_inode, out);
  out->data_fd = s.data_fd;
  out->cookie = s.cookie;
  out->slot = static_cast<uint32_t>(&s - slots);
  out->stamp = stamp;
  std::atomic_thread_fence(std::memory_order_acquire);
  return s.stamp.load(std::memory_order_relaxed) == stamp;
}

int try_open_alone(uint64_t dataset_id, uint64_t handle_inode, uint64_t dev, Lazy* out) {
  out->close_own();
  LazyFiles files;
  const int error = try_open_lazy_files(dataset_id, handle_inode, dev, nullptr, &files);
  if (error != 0) return error;
  describe(files.map, dataset_id, handle_inode, out);
  out->own_map = files.map_bytes;
  out->data_fd = files.data;
  // Not the table's.
  out->cookie = cookie_of(dev, handle_inode, files.map->data_inode ^ reinterpret_cast<uintptr_t>(out) << 1);
  return make_ours(files.data, out->cookie, dev, files.map->data_inode) ? 0 : -EAGAIN;
}

// Opened for one call alone. 0 or -errno.
int open_alone(uint64_t dataset_id, uint64_t handle_inode, Lazy* out) {
  const uint64_t dev = patience(dataset_id).chunks_dev;
  const int r =
      until_opened(dataset_id, handle_inode, [&] { return try_open_alone(dataset_id, handle_inode, dev, out); });
  return r == -EAGAIN ? -EIO : r;
}

// The slot of a handle, filled if need be. `check`: its descriptor was not ours when it was read.
int acquire(uint64_t dataset_id, uint64_t handle_inode, Lazy* out, bool check) {
  out->close_own();
  for (; out->voided < kTurns; ++out->voided) {
    if (read_slot(slot_of(handle_inode), handle_inode, out) && out->data_fd >= 0 &&
        (!check || is_ours(out->data_fd, out->cookie)))
      return 0;
    if (!own_process()) return -EIO;  // a vfork child shares our memory, but not our descriptors
    const int error = fill(dataset_id, handle_inode);
    if (error != 0 && error != -EAGAIN) return error;
    if (read_slot(slot_of(handle_inode), handle_inode, out) && out->data_fd >= 0) return 0;
  }
  return open_alone(dataset_id, handle_inode, out);
}

}  // namespace

bool data_is_ours(const Lazy& lazy) {
  return is_ours(lazy.data_fd, lazy.cookie);
}

bool unchanged(const Lazy& lazy) {
  if (lazy.own_map != 0) return true;
  std::atomic_thread_fence(std::memory_order_acquire);
  return slots[lazy.slot].stamp.load(std::memory_order_relaxed) == lazy.stamp;
}

int reacquire(Lazy& lazy) {
  ++lazy.voided;
  return acquire(lazy.dataset_id, lazy.handle_inode, &lazy, true);
}

void Lazy::close_own() {
  if (own_map == 0) return;
  if (is_ours(data_fd, cookie)) sys::close(data_fd);
  sys::munmap(const_cast<ChunkMap*>(map), own_map);
  own_map = 0;
}

int find_lazy(const struct stat& st, Lazy* out) {
  if (!S_ISDIR(st.st_mode)) return -EISDIR;
  const Identity id = identify(st);
  if (!id.lazy) return -EISDIR;
  return acquire(id.dataset_id, st.st_ino, out, false);
}

int find_lazy(int fd, Lazy* out) {
  struct stat st;
  const int r = sys::fstat(fd, &st);
  return r < 0 ? r : find_lazy(st, out);
}

void prepare_handle(int fd) {
  struct stat st;
  if (sys::fstat(fd, &st) != 0 || !S_ISDIR(st.st_mode) || !own_process()) return;
  const Identity id = identify(st);
  Slot& s = slot_of(st.st_ino);
  Lazy lazy;
  if (!id.lazy || (read_slot(s, st.st_ino, &lazy) && data_is_ours(lazy))) return;
  process.handles.store(true, std::memory_order_relaxed);
  fill_once(s, id.dataset_id, st.st_ino, patience(id.dataset_id).chunks_dev);
}

void closing_handle() {
  if (whole_count() == 0 || !own_process()) return;
  ProcessLock lock(fill_lock);
  let_go_whole();
}

}  // namespace larder
