#include "preload/lazy/lazy_read.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "preload/base/process_lock.h"
#include "preload/base/sys.h"
#include "preload/resolve/cache_files.h"
#include "preload/resolve/daemon_client.h"
#include "preload/resolve/greeting.h"

namespace larder {
namespace {

constexpr uint32_t kSlots = 128;  // lazy objects that a process has open files of; more take turns
constexpr uint32_t kMostWhole =
    16;                         // objects that are whole and that a process keeps open, so that they are not evicted
constexpr int kAttempts = 5;    // an object that becomes whole, is evicted and comes again while it is opened
constexpr uint32_t kTurns = 2;  // then a reader whose place others take again and again opens the object for itself
constexpr uint32_t kAtOnce = kMaxChunkCount;
constexpr uint64_t kAheadBytes = 32 << 20;  // of a long read, with the chunk that is waited for
constexpr uint32_t kRun = 16;  // chunks read by one call: a look at the descriptor costs as much as copying 4 KiB

// A direct-mapped table. A slot is read without a lock: its stamp is odd while it is filled, and another one
// afterwards.
struct Slot {
  std::atomic<uint32_t> stamp{0};
  uint64_t handle_inode = 0;
  uint64_t dataset_id = 0;
  int data_fd = -1;
  long cookie = 0;  // data_fd's position, which tells whether it still is ours
  const ChunkMap* map = nullptr;
  void* base = nullptr;  // of the range that shows the map; stays mapped for ever, grows by a new one
  size_t bytes = 0;
};
constinit Slot slots[kSlots] = {};
constinit std::atomic<int> fill_lock{0};  // ProcessLock: of whoever fills a slot or lets it go

Slot& slot_of(uint64_t handle_inode) {
  return slots[(handle_inode ^ handle_inode >> 7) % kSlots];
}

constexpr size_t kPage = 4096;
size_t pages(size_t n) {
  return (n + kPage - 1) & ~(kPage - 1);
}

// ---- opening --------------------------------------------------------------------------------------------------------

// Above the numbers that programs count on. Takes the descriptor over.
int parked(int fd) {
  if (fd < 0) return fd;
  const int high = park(fd);
  if (high < 0) return fd;
  sys::close(fd);
  return high;
}

bool is_file(int fd, uint64_t dev, uint64_t inode) {
  struct stat st;
  return sys::fstat(fd, &st) == 0 && st.st_ino == inode && st.st_dev == dev;
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
  const long at = sys::lseek(fd, cookie, SEEK_CUR);
  if (at == cookie && is_file(fd, dev, inode)) return true;
  if (at >= 0) sys::lseek(fd, -cookie, SEEK_CUR);
  return false;
}

}  // namespace

Patience patience(uint64_t dataset_id) {
  for (;;) {
    Session session;
    Patience p;
    if (!enter(&session)) return p;
    p.wait_ms = session.state->wait_ms;
    p.cache_dev = session.state->cache_dev;
    for (uint32_t i = 0; i < session.state->mount_count; ++i)
      if (session.state->mounts[i].dataset_id == dataset_id) p.fallback = session.state->mounts[i].fallback;
    if (left_intact(session)) return p;
  }
}

namespace {

int ask_chunks(uint64_t dataset_id, uint64_t handle_inode, uint32_t first, uint32_t chunks, uint32_t flags) {
  const Patience p = patience(dataset_id);
  const int r = ask_for_chunks(dataset_id, {handle_inode, first, chunks, flags, 0}, p.fallback, p.wait_ms);
  if (r == -EIO || r == -ENOTCONN) count(&StatSlot::errors);
  return r == -ENOTCONN ? -EIO : r;
}

// The data file, under either of its names: an object that has become whole is an ordinary cache file.
int open_data(uint64_t dataset_id, uint64_t handle_inode, const ChunkMap* map, uint64_t dev) {
  const CacheName lazy = chunk_data_path(dataset_id, handle_inode), whole = object_path(dataset_id, map->oid);
  const bool is_whole = map->whole.load(std::memory_order_acquire) != 0;
  int fd = open_in_cache(is_whole ? whole : lazy, O_RDONLY | O_CLOEXEC);
  if (fd == -ENOENT) fd = open_in_cache(is_whole ? lazy : whole, O_RDONLY | O_CLOEXEC);
  if (fd >= 0 && !is_file(fd, dev, map->data_inode)) {
    sys::close(fd);
    return -ENOENT;
  }
  return fd;
}

bool good_map(const ChunkMap* m, uint64_t bytes, uint64_t handle_inode) {
  return m->magic == kChunkMapMagic && m->format == kChunkMapFormat && m->handle_inode == handle_inode &&
         m->chunk_shift >= 12 && m->chunk_shift < 40 && m->size > 0 && m->chunk_count > 0 &&
         (m->size - 1) >> m->chunk_shift == m->chunk_count - 1u && bytes >= chunk_map_bytes(m->chunk_count);
}

// Shows a map file in the slot's range. 0 or -errno.
int show_map(Slot& s, int fd, uint64_t handle_inode) {
  struct stat st;
  if (sys::fstat(fd, &st) != 0 || st.st_size < static_cast<long>(sizeof(ChunkMap))) return -EIO;
  const size_t need = pages(static_cast<size_t>(st.st_size));
  if (need > s.bytes) {
    void* base = sys::mmap(nullptr, need, PROT_READ, MAP_SHARED, fd, 0);
    if (base == nullptr) return -ENOMEM;
    s.base = base;
    s.bytes = need;
  } else if (sys::mmap(s.base, need, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == nullptr) {
    return -ENOMEM;
  }
  s.map = static_cast<const ChunkMap*>(s.base);
  return good_map(s.map, static_cast<uint64_t>(st.st_size), handle_inode) ? 0 : -EAGAIN;
}

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
  sys::Fd map(open_in_cache(chunk_map_path(dataset_id, handle_inode), O_RDONLY | O_CLOEXEC));
  if (map.get() < 0) return map.get();
  if (int error = show_map(s, map.get(), handle_inode)) return error;
  const int data = parked(open_data(dataset_id, handle_inode, s.map, dev));
  if (data < 0) return data;
  s.cookie = cookie_of(dev, handle_inode, s.map->data_inode);
  if (!make_ours(data, s.cookie, dev, s.map->data_inode)) return -EAGAIN;
  s.data_fd = data;
  s.dataset_id = dataset_id;
  s.handle_inode = handle_inode;
  return 0;
}

// Fills the slot of a handle. 0 or -errno; -ESTALE: the daemon does not know it any more; -EAGAIN: other threads of the
// program use the numbers of our descriptors for theirs.
int fill(uint64_t dataset_id, uint64_t handle_inode, uint64_t dev) {
  Slot& s = slot_of(handle_inode);
  for (int attempt = 0;; ++attempt) {
    int r;
    {
      ProcessLock lock(fill_lock);
      const bool there = s.handle_inode == handle_inode && s.data_fd >= 0 && is_ours(s.data_fd, s.cookie);
      if (there) return 0;  // another thread did it
      if (whole_count() >= kMostWhole) let_go_whole();
      s.stamp.fetch_add(1, std::memory_order_acq_rel);
      let_go(s);
      s.handle_inode = 0;
      r = try_fill(s, dataset_id, handle_inode, dev);
      s.stamp.fetch_add(1, std::memory_order_release);
    }
    if ((r != -ENOENT && r != -EAGAIN) || attempt >= kAttempts) return r == -ENOENT ? -ESTALE : r;
    if (r == -EAGAIN) continue;
    r = ask_chunks(dataset_id, handle_inode, 0, 1, 0);  // was whole and went: it comes again under the same handle
    if (r != 0) return r;
  }
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

bool unchanged(const Lazy& lazy) {
  if (lazy.own_map != 0) return true;
  std::atomic_thread_fence(std::memory_order_acquire);
  return slots[lazy.slot].stamp.load(std::memory_order_relaxed) == lazy.stamp;
}

// Opened for one call alone. 0 or -errno (-EAGAIN as fill()).
int open_alone(uint64_t dataset_id, uint64_t handle_inode, uint64_t dev, Lazy* out) {
  LazyFiles files;
  if (int error = open_lazy_files(dataset_id, handle_inode, &files)) return error;
  sys::Fd map(files.map);
  struct stat st;
  const bool sized = sys::fstat(files.map, &st) == 0 && st.st_size >= static_cast<long>(sizeof(ChunkMap));
  auto* base = static_cast<const ChunkMap*>(
      sized ? sys::mmap(nullptr, pages(static_cast<size_t>(st.st_size)), PROT_READ, MAP_SHARED, files.map, 0)
            : nullptr);
  if (base == nullptr || !good_map(base, static_cast<uint64_t>(st.st_size), handle_inode)) {
    sys::close(files.data);
    if (base == nullptr) return -ENOMEM;
    sys::munmap(const_cast<ChunkMap*>(base), pages(static_cast<size_t>(st.st_size)));
    return -EAGAIN;
  }
  describe(base, dataset_id, handle_inode, out);
  out->own_map = pages(static_cast<size_t>(st.st_size));
  out->data_fd = files.data;
  out->cookie =
      cookie_of(dev, handle_inode, base->data_inode ^ reinterpret_cast<uintptr_t>(out) << 1);  // not the table's
  return make_ours(files.data, out->cookie, dev, base->data_inode) ? 0 : -EAGAIN;
}

// The slot of a handle, filled if need be. `check`: its descriptor was not ours when it was read.
int acquire(uint64_t dataset_id, uint64_t handle_inode, Lazy* out, bool check) {
  out->close_own();
  for (; out->voided < kTurns; ++out->voided) {
    if (read_slot(slot_of(handle_inode), handle_inode, out) && out->data_fd >= 0 &&
        (!check || is_ours(out->data_fd, out->cookie)))
      return 0;
    if (!own_process()) return -EIO;  // a vfork child shares our memory, but not our descriptors
    const int error = fill(dataset_id, handle_inode, patience(dataset_id).cache_dev);
    if (error != 0 && error != -EAGAIN) return error;
    if (read_slot(slot_of(handle_inode), handle_inode, out) && out->data_fd >= 0) return 0;
  }
  const uint64_t dev = patience(dataset_id).cache_dev;
  int r = -EAGAIN;
  for (int attempt = 0; r == -EAGAIN && attempt < kAttempts; ++attempt) {
    out->close_own();
    r = open_alone(dataset_id, handle_inode, dev, out);
  }
  return r == -EAGAIN ? -EIO : r;
}

}  // namespace

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

void closing_handle() {
  if (whole_count() == 0 || !own_process()) return;
  ProcessLock lock(fill_lock);
  let_go_whole();
}

void advise_chunks(const Lazy& lazy, uint64_t offset, uint64_t length) {
  if (offset >= lazy.size || length == 0) return;
  const uint32_t first = static_cast<uint32_t>(offset >> lazy.chunk_shift);
  const uint64_t end = length < lazy.size - offset ? offset + length : lazy.size;
  uint32_t count = static_cast<uint32_t>((end - 1) >> lazy.chunk_shift) - first + 1;
  if (count > kAtOnce) count = kAtOnce;
  advise_chunks(lazy.dataset_id, lazy.handle_inode, first, count);
}

namespace {

// Chunks in a row that are there, and as much of a read as lies in them.
struct Run {
  uint32_t first, count = 0;
  uint64_t begin, bytes = 0;  // in the object
  uint32_t words[kRun];
};

uint64_t start_of(const Lazy& lazy, uint32_t chunk) {
  return uint64_t{chunk} << lazy.chunk_shift;
}

void find_run(const Lazy& lazy, uint64_t offset, size_t length, Run* run) {
  run->first = static_cast<uint32_t>(offset >> lazy.chunk_shift);
  run->begin = offset;
  while (run->count < kRun && run->bytes < length) {
    const uint32_t word = lazy.map->words[run->first + run->count].load(std::memory_order_acquire);
    if (!(word & kChunkPresent)) return;
    run->words[run->count++] = word;
    const uint64_t here = start_of(lazy, run->first + run->count) - offset;
    run->bytes = here < length ? here : length;
  }
}

// What of it is as it was.
void check_run(const Lazy& lazy, Run* run) {
  for (uint32_t i = 0; i < run->count; ++i) {
    const uint32_t after = lazy.map->words[run->first + i].load(std::memory_order_relaxed);
    if (same_chunk(run->words[i], after)) continue;
    run->count = i;
    run->bytes = i == 0 ? 0 : start_of(lazy, run->first + i) - run->begin;
  }
}

void tell_marks(const Lazy& lazy, const Run& run) {
  for (uint32_t i = 0; i < run.count; ++i)
    if (run.words[i] & kChunkMark) advise_chunks(lazy, start_of(lazy, run.first + i), 1);
}

// A part of a read, from chunks that are there. Bytes, -errno, or 0: read again (the first is absent, went meanwhile,
// or the table changed).
ssize_t read_run(Lazy& lazy, char* buffer, size_t length, uint64_t offset) {
  Run run;
  find_run(lazy, offset, length, &run);
  const bool present = run.count > 0;
  const long n = present ? sys::call(SYS_pread64, lazy.data_fd, sys::arg(buffer), static_cast<long>(run.bytes),
                                     static_cast<long>(offset))
                         : 0;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  // The descriptor is asked after the read: if it is ours then, and the slot is as it was, the bytes came from our
  // file. Asked before, another thread could have closed it and opened something else there in between.
  const bool ours = !present || is_ours(lazy.data_fd, lazy.cookie);
  check_run(lazy, &run);
  if (!ours || !unchanged(lazy)) {  // the words may be another object's
    ++lazy.voided;
    return acquire(lazy.dataset_id, lazy.handle_inode, &lazy, true);
  }
  if (run.count == 0) return 0;
  if (n == 0) return -EIO;  // the data file is shorter than its map says
  if (n > 0) tell_marks(lazy, run);
  return n < 0 || static_cast<uint64_t>(n) < run.bytes ? n : static_cast<ssize_t>(run.bytes);
}

// Waits for the first chunk of a range that will be read; the others will be wanted next.
int fetch_here(const Lazy& lazy, uint64_t offset, uint64_t length) {
  const uint64_t end = offset + (length < kAheadBytes ? length : kAheadBytes);
  const uint32_t first = static_cast<uint32_t>(offset >> lazy.chunk_shift);
  if (lazy.map->words[first].load(std::memory_order_acquire) & kChunkPresent) return 0;
  const uint32_t count = static_cast<uint32_t>((end - 1) >> lazy.chunk_shift) - first + 1;
  return ask_chunks(lazy.dataset_id, lazy.handle_inode, first, count < kAtOnce ? count : kAtOnce, kChunksAhead);
}

}  // namespace

ssize_t lazy_pread(Lazy& lazy, void* buffer, size_t length, uint64_t offset) {
  if (offset >= lazy.size) return 0;
  if (length > lazy.size - offset) length = lazy.size - offset;
  size_t done = 0;
  for (int64_t give_up = 0; done < length;) {
    ssize_t n = read_run(lazy, static_cast<char*>(buffer) + done, length - done, offset + done);
    if (n == 0) {
      n = fetch_here(lazy, offset + done, length - done);
      // It may be evicted again before it is read; that this happens time after time is a daemon that is ill.
      const int64_t now = sys::now_ms();
      if (give_up == 0) give_up = now + 2 * patience(lazy.dataset_id).wait_ms;
      if (n == 0 && now > give_up) n = -EIO;
      if (n == 0) continue;
    }
    if (n < 0) return done > 0 ? static_cast<ssize_t>(done) : n;
    done += static_cast<size_t>(n);
    give_up = 0;
  }
  return static_cast<ssize_t>(done);
}

int open_whole(const Lazy& lazy) {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const int fd = open_in_cache(object_path(lazy.dataset_id, lazy.oid), O_RDONLY | O_CLOEXEC);
    if (fd != -ENOENT) return fd;
    if (int error = ask_chunks(lazy.dataset_id, lazy.handle_inode, 0, 0, kChunksWhole)) return error;
  }
  return -EIO;
}

int open_lazy_files(uint64_t dataset_id, uint64_t handle_inode, LazyFiles* out) {
  const uint64_t dev = patience(dataset_id).cache_dev;
  int last = -EIO;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    sys::Fd map(open_in_cache(chunk_map_path(dataset_id, handle_inode), O_RDONLY | O_CLOEXEC));
    ChunkMap header;
    int data = map.get();
    if (map.get() >= 0) {
      const long n = sys::call(SYS_pread64, map.get(), sys::arg(&header), sizeof(header), 0);
      if (n != static_cast<long>(sizeof(header)) || header.magic != kChunkMapMagic ||
          header.handle_inode != handle_inode) {
        last = -EIO;  // it may be a file that the program put there meanwhile
        continue;
      }
      data = open_data(dataset_id, handle_inode, &header, dev);
    }
    if (data >= 0) {
      out->data = data;
      out->map = map.release();
      return 0;
    }
    if (data != -ENOENT) return data;
    if (int error = ask_chunks(dataset_id, handle_inode, 0, 1, 0)) return error;
    last = -ESTALE;
  }
  return last;
}

}  // namespace larder
