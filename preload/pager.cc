#include "preload/pager.h"

#include <errno.h>
#include <sys/auxv.h>
#include <sys/prctl.h>

#include "preload/maps.h"
#include "preload/miss.h"
#include "preload/ranges.h"
#include "preload/thread.h"
#include "preload/uffd.h"

namespace larder {

constinit std::atomic<void (*)()> pager_gave_up{nullptr};
constinit std::atomic<uint64_t> pager_features{~0ULL};

namespace {

constexpr uint32_t kFiles = 4096;
constexpr uint32_t kWaiters = 512;   // threads that wait for a page; more are sent back to fault again
constexpr uint32_t kFetches = 48;    // chunks asked for at a time
constexpr int kFutile = 32;          // times that a chunk may be said to be there and its page is not
constexpr unsigned long kStack = 64 * 1024;
// Pages shown at a fault: as many as the kernel maps around one of its own, doubled for a sequential reader. One page costs about
// 1 us, a fault about 10; at 1 MiB another thread's fault waits 0.3 ms for its turn.
constexpr uint32_t kFirstWindow = 64 * 1024, kLastWindow = 1024 * 1024;
constexpr uint32_t kMaxAdvices = 8;  // messages for one advice: 1 GiB of chunks of 4 MiB

constexpr uint32_t kIdle = 0, kPosted = 1, kDone = 2;
constexpr uint32_t kStarting = 0, kRunning = 1, kFailed = 2;

// Entries are made and given up by the pager alone; a fork's child may find any of them half made, so `valid` is the last word of
// making one and the first of giving one up, in one cache line with what it speaks of.
struct alignas(128) File {
  std::atomic<bool> valid{false};
  PagedFile f;
};

enum class Wait : uint8_t { kNew, kFetch, kSlot };

struct Waiter {
  uint64_t address;  // of the page
  Wait wait;
  uint32_t word;     // of the chunk, when it was looked at last
  int futile;
};

struct Fetch {
  uint32_t file, chunk;
  int socket = -1;
  int pause_ms = 0;
  int64_t next_try_ms = 0, deadline_ms = 0;
  bool used = false;
};

// What the program's threads and the pager share.
struct Desk {
  std::atomic<uint32_t> state{kIdle};
  Errand errand;
  std::atomic<uint32_t> status{kStarting};
  std::atomic<int> tid{0};  // the kernel clears it
  int pid = 0;
  long start_error = 0;
  bool adopt = false;
  bool kernel_faults = false;
  char* stack = nullptr;
  char* doorbell = nullptr;  // a page registered like the mappings: MADV_DONTNEED on it is a message
};

constinit Desk desk;
constinit File files[kFiles];
constinit std::atomic<uint32_t> file_end{0};  // none beyond was ever used
RangeTable ranges;
Waiter waiters[kWaiters];
constinit uint32_t waiter_count = 0;
constinit Fetch fetches[kFetches];
constinit int uffd = -1;
constinit bool minor = false, poison = false;
constinit uint64_t page = 4096;
constinit uint64_t last_woken = 0;  // without minor faults: address and word of the last page that was there
constinit uint32_t last_word = 0;
constinit int last_futile = 0;

uint64_t round_up(uint64_t n) { return (n + page - 1) & ~(page - 1); }

// ---- the kernel's side ----------------------------------------------------------------------------------------------

void wake(uint64_t start, uint64_t length) {
  const uffdio_range range = {start, length};
  uffd::control(uffd, UFFDIO_WAKE, &range);
}

int new_uffd(bool kernel_faults) {
  if (!kernel_faults) return static_cast<int>(sys::call(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY));
  const int fd = static_cast<int>(sys::call(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
  if (fd != -EPERM) return fd;
  sys::Fd device(sys::openat(AT_FDCWD, "/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  if (device.get() < 0) return fd;
  return static_cast<int>(sys::call(SYS_ioctl, device.get(), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK));
}

long supported_features(bool kernel_faults, uint64_t* out) {
  sys::Fd fd(new_uffd(kernel_faults));
  if (fd.get() < 0) return fd.get();
  uffdio_api api = {UFFD_API, 0, 0};
  const long r = uffd::control(fd.get(), UFFDIO_API, &api);
  *out = api.features & pager_features.load(std::memory_order_relaxed);
  return r;
}

long open_uffd() {
  uint64_t supported = 0;
  bool kernel_faults = true;
  long r = supported_features(true, &supported);
  if (r < 0) r = supported_features(kernel_faults = false, &supported);
  if (r < 0) return r;
  if ((supported & uffd::kFeaturesNeeded) != uffd::kFeaturesNeeded) return -ENOSYS;
  uffdio_api api = {UFFD_API, supported & (uffd::kFeaturesNeeded | uffd::kFeatureMinorShmem | uffd::kFeaturePoison), 0};
  uffd = new_uffd(kernel_faults);
  if (uffd < 0) return uffd;
  minor = api.features & uffd::kFeatureMinorShmem;
  poison = api.features & uffd::kFeaturePoison;
  desk.kernel_faults = kernel_faults;
  return uffd::control(uffd, UFFDIO_API, &api);
}

long register_range(uint64_t start, uint64_t length, bool with_minor) {
  uffdio_register r = {{start, length}, UFFDIO_REGISTER_MODE_MISSING | (with_minor ? uffd::kModeMinor : 0), 0};
  return uffd::control(uffd, UFFDIO_REGISTER, &r);
}

// Has the kernel unmapped or moved something that it has not told us of yet? Whatever began before this says no, we have read.
bool mappings_change() {
  uffdio_copy nothing = {};
  return uffd::control(uffd, UFFDIO_COPY, &nothing) == -EAGAIN;
}

// ---- files ----------------------------------------------------------------------------------------------------------

File* find_file(uint64_t dev, uint64_t inode) {
  const uint32_t n = file_end.load(std::memory_order_acquire);
  for (uint32_t i = 0; i < n && inode != 0; ++i) {
    const File& file = files[i];
    if (file.valid.load(std::memory_order_acquire) && file.f.inode == inode && file.f.dev == dev) return &files[i];
  }
  return nullptr;
}

uint32_t index_of(const File* file) { return static_cast<uint32_t>(file - files); }

void close_fetch(Fetch& fetch) {
  if (fetch.socket >= 0) sys::close(fetch.socket);
  fetch = Fetch();
}

void drop_unused(File& file) {
  const uint32_t index = index_of(&file);
  if (!file.valid.load(std::memory_order_relaxed) || ranges.uses(index)) return;
  file.valid.store(false, std::memory_order_release);
  for (Fetch& fetch : fetches)
    if (fetch.used && fetch.file == index) close_fetch(fetch);
  sys::munmap(const_cast<ChunkMap*>(file.f.map), file.f.map_bytes);
}

void drop_all_unused() {
  for (uint32_t i = 0; i < file_end.load(std::memory_order_relaxed); ++i) drop_unused(files[i]);
}

// The entry of a file; takes over or unmaps its map. Null: the table is full.
File* intern(const PagedFile& f) {
  File* file = find_file(f.dev, f.inode);
  if (file != nullptr) {
    sys::munmap(const_cast<ChunkMap*>(f.map), f.map_bytes);
    file->f.wait_ms = f.wait_ms;
    file->f.patient = f.patient;
    return file;
  }
  for (File& free : files) {
    if (free.valid.load(std::memory_order_relaxed)) continue;
    free.f = f;
    free.valid.store(true, std::memory_order_release);
    if (index_of(&free) >= file_end.load(std::memory_order_relaxed)) file_end.store(index_of(&free) + 1, std::memory_order_release);
    return &free;
  }
  return nullptr;
}

// ---- what the kernel reports ----------------------------------------------------------------------------------------

void unmapped(uint64_t start, uint64_t end) {
  ranges.erase(start, end);
  wake(start, end - start);
  for (uint32_t i = 0; i < waiter_count; ++i)
    if (waiters[i].address >= start && waiters[i].address < end) waiters[i].wait = Wait::kNew;
  drop_all_unused();
}

void faulted(uint64_t address) {
  if (waiter_count == kWaiters) return wake(address, page);
  waiters[waiter_count++] = {address, Wait::kNew, 0, 0};
}

void take_message(const uffd_msg& m) {
  switch (m.event) {
    case UFFD_EVENT_PAGEFAULT: return faulted(m.arg.pagefault.address & ~(page - 1));
    case UFFD_EVENT_UNMAP: return unmapped(m.arg.remove.start, m.arg.remove.end);
    case UFFD_EVENT_REMAP: return ranges.move(m.arg.remap.from, m.arg.remap.to, m.arg.remap.len);
    default: return;  // UFFD_EVENT_REMOVE: its pages fault again. That of the doorbell: the errand is looked for anyway
  }
}

void read_messages() {
  uffd_msg messages[16];
  for (;;) {
    const long n = sys::call(SYS_read, uffd, sys::arg(messages), sizeof(messages));
    if (n <= 0) return;
    for (long i = 0; i < n / static_cast<long>(sizeof(uffd_msg)); ++i) take_message(messages[i]);
  }
}

// Afterwards the table is what was true at some time since the call.
void settle() {
  read_messages();
  while (mappings_change()) {
    sys::wait_fd(uffd, POLLIN, 1);
    read_messages();
  }
}

// ---- places ---------------------------------------------------------------------------------------------------------

// A mapping that grew in place is not reported. The kernel's list tells what is at the address: -ENOENT nothing, -EINVAL something else.
int adopt_place(uint64_t address) {
  int found = -ENOENT;
  const int r = for_each_mapping([&](const Mapping& m) {
    if (address < m.start || address >= m.end) return;
    const File* file = find_file(m.dev, m.inode);
    found = file != nullptr && ranges.insert({m.start, m.end, m.offset, index_of(file), 0, 0}) ? 0 : -EINVAL;
  });
  return r < 0 ? -EINVAL : found;
}

MappedRange* place(uint64_t address, int* error) {
  *error = 0;
  if (MappedRange* r = ranges.find(address)) return r;
  settle();
  if (MappedRange* r = ranges.find(address)) return r;
  *error = adopt_place(address);
  return *error == 0 ? ranges.find(address) : nullptr;
}

// ---- pages ----------------------------------------------------------------------------------------------------------

// The access at this page ends in a signal.
void give_up(uint64_t address) {
  if (auto told = pager_gave_up.load(std::memory_order_acquire)) told();
  for (int attempt = 0; poison && attempt < 100; ++attempt) {
    uffd::PageRange p = {address, page, 0, 0};
    const long r = uffd::control(uffd, uffd::kPoison, &p);
    if (r == -EAGAIN) {
      settle();
      continue;
    }
    return wake(address, page);  // done, or the page came meanwhile, or the mapping went
  }
  sys::call(SYS_mprotect, sys::arg(reinterpret_cast<void*>(address)), static_cast<long>(page), PROT_NONE);
  wake(address, page);
}

// Maps what is in the data file, without waking anyone. Bytes from `start` on that are mapped now, or -errno if not even one page is.
long show_pages(uint64_t start, uint64_t end) {
  uint64_t at = start;
  while (at < end) {
    uffd::PageRange p = {at, end - at, uffd::kDontWake, 0};
    const long r = uffd::control(uffd, uffd::kContinue, &p);
    if (r == 0) return static_cast<long>(end - start);
    if (p.done > 0) at += static_cast<uint64_t>(p.done);
    else if (r == -EEXIST) at += page;
    else return at > start ? static_cast<long>(at - start) : r;
  }
  return static_cast<long>(end - start);
}

bool still(const PagedFile& f, uint32_t chunk, uint32_t word) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return same_chunk(word, f.map->words[chunk].load(std::memory_order_acquire));
}

// Shows the page, and those after it in its chunk, if they are there: 0. -ENOENT: not there. -EAGAIN: the mappings change.
int show(MappedRange& r, const PagedFile& f, uint64_t address, uint32_t chunk, uint32_t word) {
  const uint64_t offset = r.file_offset(address);
  uint64_t chunk_end = (uint64_t{chunk} + 1) << f.map->chunk_shift;
  if (chunk_end > f.map->size) chunk_end = round_up(f.map->size);
  uint64_t end = address + (chunk_end - offset);
  if (end > r.end) end = r.end;
  const bool sequential = address == r.next && r.window >= kFirstWindow;
  r.window = sequential && r.window < kLastWindow ? r.window * 2 : sequential ? r.window : kFirstWindow;
  if (end - address > r.window) end = address + r.window;
  const long n = show_pages(address, end);
  if (n == -EAGAIN) return -EAGAIN;
  if (n < 0 || !still(f, chunk, word)) return -ENOENT;
  r.next = address + static_cast<uint64_t>(n);
  wake(address, static_cast<uint64_t>(n));
  return 0;
}

// Without minor faults: whoever waits looks again, and finds the page or faults again.
int wake_to_look(uint64_t address, uint32_t word) {
  const bool again = last_woken == address && last_word == word;
  last_futile = again ? last_futile + 1 : 0;
  last_woken = address;
  last_word = word;
  if (last_futile > kFutile) return -ENOENT;
  wake(address, page);
  return 0;
}

// ---- asking larderd -------------------------------------------------------------------------------------------------

int send_chunks(const PagedFile& f, uint32_t first, uint32_t count, uint32_t flags) {
  Request request = {};
  request.magic = kWireMagic;
  request.version = kWireVersion;
  request.op = Op::kChunks;
  request.dataset_id = f.dataset_id;
  request.payload_len = sizeof(ChunkRequest);
  const ChunkRequest chunks = {f.handle_inode, first, count, flags, 0};
  return start_request(request, &chunks);
}

void advise(const PagedFile& f, uint32_t first, uint32_t count) { sys::Fd sent(send_chunks(f, first, count, kChunksAdvise)); }

// False: all slots are taken.
bool want(uint32_t file, uint32_t chunk) {
  Fetch* free = nullptr;
  for (Fetch& fetch : fetches) {
    if (fetch.used && fetch.file == file && fetch.chunk == chunk) return true;
    if (!fetch.used) free = &fetch;
  }
  if (free == nullptr) return false;
  *free = {file, chunk, -1, 10, 0, sys::now_ms() + files[file].f.wait_ms, true};
  return true;
}

// Calls f for the waiters of a chunk; those for which it returns true are done.
template <typename Each>
void for_waiters(uint32_t file, uint32_t chunk, Each f) {
  for (uint32_t i = 0; i < waiter_count;) {
    Waiter& w = waiters[i];
    const MappedRange* r = ranges.find(w.address);
    const bool gone = r == nullptr;
    const bool ours = !gone && r->file == file && r->file_offset(w.address) >> files[file].f.map->chunk_shift == chunk;
    if (w.wait == Wait::kSlot || gone) w.wait = Wait::kNew;
    if (ours && f(w)) waiters[i] = waiters[--waiter_count];
    else ++i;
  }
}

void arrived(Fetch& fetch) {
  const uint32_t file = fetch.file, chunk = fetch.chunk;
  close_fetch(fetch);
  for_waiters(file, chunk, [](Waiter& w) { return w.wait = Wait::kNew, false; });
}

// give_up() may settle and so change the table of waiters: one at a time.
void failed(Fetch& fetch) {
  const uint32_t file = fetch.file, chunk = fetch.chunk;
  close_fetch(fetch);
  for (uint64_t address = 1; address != 0;) {
    address = 0;
    for_waiters(file, chunk, [&](Waiter& w) {
      if (address != 0) return false;
      address = w.address;
      return true;
    });
    if (address != 0) give_up(address);
    if (!files[file].valid.load(std::memory_order_relaxed)) return;
  }
}

void try_later(Fetch& fetch, int64_t now) {
  if (fetch.socket >= 0) sys::close(fetch.socket);
  fetch.socket = -1;
  if (!files[fetch.file].f.patient || now + fetch.pause_ms > fetch.deadline_ms) return failed(fetch);
  fetch.next_try_ms = now + fetch.pause_ms;
  if (fetch.pause_ms < 200) fetch.pause_ms *= 2;
}

void start_fetch(Fetch& fetch, int64_t now) {
  const int socket = send_chunks(files[fetch.file].f, fetch.chunk, 1, 0);
  if (socket < 0) return try_later(fetch, now);
  fetch.socket = socket;
  fetch.next_try_ms = fetch.deadline_ms;
}

void finish_fetch(Fetch& fetch, int64_t now) {
  Reply reply;
  if (finish_request(fetch.socket, &reply) != 0) return try_later(fetch, now);
  return reply.status == 0 ? arrived(fetch) : failed(fetch);
}

// ---- serving --------------------------------------------------------------------------------------------------------

// Is the waiter done with?
bool serve(Waiter& w) {
  int error;
  MappedRange* r = place(w.address, &error);
  if (r == nullptr) {
    if (error == -ENOENT) wake(w.address, page);  // nothing is mapped there any more, as the thread will see
    else give_up(w.address);
    return true;
  }
  const uint32_t file = r->file;
  const PagedFile& f = files[file].f;
  const uint64_t offset = r->file_offset(w.address);
  if (offset >= f.map->size) return give_up(w.address), true;
  const uint32_t chunk = static_cast<uint32_t>(offset >> f.map->chunk_shift);
  const uint32_t word = f.map->words[chunk].load(std::memory_order_acquire);
  if (word & kChunkPresent) {
    const int e = minor ? show(*r, f, w.address, chunk, word) : wake_to_look(w.address, word);
    if (e == 0 && (word & kChunkMark)) advise(f, chunk, 1);
    if (e == 0) return true;
    if (e == -EAGAIN) return settle(), false;
    w.futile = same_chunk(w.word, word) ? w.futile + 1 : 0;
    if (w.futile > kFutile) return give_up(w.address), true;
  }
  w.word = word;
  w.wait = want(file, chunk) ? Wait::kFetch : Wait::kSlot;
  return false;
}

// serve() may add waiters at the end (settle), never take one away.
void serve_new() {
  for (uint32_t i = 0; i < waiter_count;) {
    if (waiters[i].wait != Wait::kNew) {
      ++i;
      continue;
    }
    Waiter w = waiters[i];
    const bool done = serve(w);
    if (done) waiters[i] = waiters[--waiter_count];
    else waiters[i++] = w;
  }
}

// ---- errands --------------------------------------------------------------------------------------------------------

long start_serving(const Errand& e) {
  settle();
  File* file = intern(e.file);
  if (file == nullptr) return -ENOMEM;
  long r = register_range(e.start, e.length, minor);
  if (r == 0 && !ranges.insert({e.start, e.start + e.length, e.offset, index_of(file), 0, 0})) r = -ENOMEM;
  if (r != 0) drop_unused(*file);
  return r;
}

long set_fork(int advice) {
  settle();
  for (uint32_t i = 0; i < ranges.size(); ++i) {
    const uint64_t start = ranges[i].start, length = ranges[i].end - start;
    sys::call(SYS_madvise, static_cast<long>(start), static_cast<long>(length), advice);
  }
  return 0;
}

long advise_range(uint64_t start, uint64_t length) {
  settle();
  const MappedRange* r = ranges.find(start);
  if (r == nullptr) return -ENOENT;
  const PagedFile& f = files[r->file].f;
  const uint64_t from = r->file_offset(start);
  const uint64_t end = length < r->end - start ? from + length : r->file_offset(r->end);
  if (from >= f.map->size || from >= end) return 0;
  const uint32_t last = static_cast<uint32_t>(((end < f.map->size ? end : f.map->size) - 1) >> f.map->chunk_shift);
  uint32_t chunk = static_cast<uint32_t>(from >> f.map->chunk_shift);
  for (uint32_t sent = 0; sent < kMaxAdvices && chunk <= last; chunk += kMaxChunkCount, ++sent) {
    const uint32_t left = last - chunk + 1;
    advise(f, chunk, left < kMaxChunkCount ? left : kMaxChunkCount);
  }
  return 0;
}

long carry_out(const Errand& e) {
  switch (e.order) {
    case Order::kMap: return start_serving(e);
    case Order::kAllowFork: return set_fork(MADV_DOFORK);
    case Order::kForbidFork: return set_fork(MADV_DONTFORK);
    case Order::kAdvise: return advise_range(e.start, e.length);
  }
  return -EINVAL;
}

void look_at_desk() {
  if (desk.state.load(std::memory_order_acquire) != kPosted) return;
  desk.errand.result = carry_out(desk.errand);
  desk.state.store(kDone, std::memory_order_release);
  futex_wake(&desk.state);
}

// ---- the thread -----------------------------------------------------------------------------------------------------

// In a fork's child: what the kernel says is mapped, not what the parent's table said at some moment of the fork.
long adopt_mappings() {
  long problem = 0;
  const int r = for_each_mapping([&](const Mapping& m) {
    const File* file = find_file(m.dev, m.inode);
    if (file == nullptr) return;
    const auto length = static_cast<long>(m.end - m.start);
    long e = register_range(m.start, m.end - m.start, minor);
    if (e == 0) e = sys::call(SYS_madvise, static_cast<long>(m.start), length, MADV_DONTFORK);
    if (e == 0 && !ranges.insert({m.start, m.end, m.offset, index_of(file), 0, 0})) e = -ENOMEM;
    if (e != 0) problem = e;
  });
  drop_all_unused();
  return r < 0 ? r : problem;
}

long prepare() {
  if (const long r = leave_descriptors()) return r;
  page = paged_page();
  if (const long r = open_uffd()) return r;
  if (const long r = register_range(reinterpret_cast<uint64_t>(desk.doorbell), page, false)) return r;
  return desk.adopt ? adopt_mappings() : 0;
}

// Waits for the kernel, for larderd, or until something is due.
void wait_for_work() {
  struct pollfd polled[kFetches + 1];
  uint32_t which[kFetches];
  nfds_t n = 0;
  int64_t now = sys::now_ms(), due = now + 60'000;
  for (uint32_t i = 0; i < kFetches; ++i) {
    Fetch& fetch = fetches[i];
    if (fetch.used && fetch.socket < 0 && fetch.next_try_ms <= now) start_fetch(fetch, now);
    if (!fetch.used) continue;
    if (fetch.next_try_ms < due) due = fetch.next_try_ms;
    if (fetch.socket < 0) continue;
    which[n] = i;
    polled[n++] = {fetch.socket, POLLIN, 0};
  }
  polled[n] = {uffd, POLLIN, 0};
  for (uint32_t i = 0; i < waiter_count; ++i)
    if (waiters[i].wait == Wait::kNew) due = now;
  const int64_t ms = due > now ? due - now : 0;
  struct timespec t = {ms / 1000, (ms % 1000) * 1000000};
  if (sys::call(SYS_ppoll, sys::arg(polled), static_cast<long>(n + 1), sys::arg(&t), 0, 8) < 0) return;
  now = sys::now_ms();
  for (nfds_t i = 0; i < n; ++i) {
    Fetch& fetch = fetches[which[i]];
    if (polled[i].revents != 0) finish_fetch(fetch, now);
    else if (fetch.used && fetch.socket >= 0 && now >= fetch.deadline_ms) failed(fetch);
  }
}

void pager_main() {
  sys::call(SYS_prctl, PR_SET_NAME, sys::arg("larder-pager"));
  const long r = prepare();
  desk.start_error = r;
  desk.status.store(r == 0 ? kRunning : kFailed, std::memory_order_release);
  futex_wake(&desk.status);
  while (r == 0) {
    wait_for_work();
    read_messages();
    look_at_desk();
    serve_new();
  }
  for (;;) sys::call(SYS_exit, 0);
}

}  // namespace

// ---- the program's side ---------------------------------------------------------------------------------------------

long start_pager(bool adopt) {
  desk.state.store(kIdle, std::memory_order_relaxed);
  desk.status.store(kStarting, std::memory_order_relaxed);
  desk.adopt = adopt;
  ranges.clear();
  waiter_count = 0;
  for (Fetch& fetch : fetches) fetch = Fetch();  // their sockets are in another table
  if (desk.doorbell == nullptr) {
    desk.doorbell = static_cast<char*>(sys::mmap(nullptr, paged_page(), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (desk.doorbell == nullptr) return -ENOMEM;
  }
  if (desk.stack == nullptr && (desk.stack = make_stack(kStack)) == nullptr) return -ENOMEM;
  while (desk.pid == sys::getpid() && desk.tid.load(std::memory_order_acquire) != 0) sys::sleep_ms(1);  // one that failed is leaving
  desk.pid = sys::getpid();
  const long tid = spawn_thread(pager_main, desk.stack, &desk.tid);
  if (tid < 0) return tid;
  while (desk.status.load(std::memory_order_acquire) == kStarting) futex_wait(&desk.status, kStarting, 1000);
  return desk.start_error;
}

bool pager_runs() { return desk.status.load(std::memory_order_acquire) == kRunning && desk.pid == sys::getpid(); }

bool pager_has_files() {
  for (uint32_t i = 0; i < file_end.load(std::memory_order_acquire); ++i)
    if (files[i].valid.load(std::memory_order_acquire)) return true;
  return false;
}

bool pager_knows_file(uint64_t dev, uint64_t inode) { return find_file(dev, inode) != nullptr; }

uint64_t paged_page() { return getauxval(AT_PAGESZ); }

long run_errand(const Errand& errand) {
  desk.errand = errand;
  desk.state.store(kPosted, std::memory_order_release);
  // Rings: the kernel holds us here until the pager has read of it.
  sys::call(SYS_madvise, sys::arg(desk.doorbell), static_cast<long>(paged_page()), MADV_DONTNEED);
  while (desk.state.load(std::memory_order_acquire) != kDone) {
    if (desk.tid.load(std::memory_order_relaxed) == 0) return -EIO;
    futex_wait(&desk.state, kPosted, 1000);
  }
  const long result = desk.errand.result;
  desk.state.store(kIdle, std::memory_order_relaxed);
  return result;
}

bool pager_serves_kernel() { return desk.kernel_faults; }

}  // namespace larder
