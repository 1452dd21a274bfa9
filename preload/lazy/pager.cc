#include "preload/lazy/pager.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <sys/auxv.h>
#include <sys/prctl.h>

#include "preload/lazy/chunk_fetches.h"
#include "preload/lazy/chunk_run.h"
#include "preload/lazy/paged_files.h"
#include "preload/lazy/pager_thread.h"
#include "preload/lazy/proc_maps.h"
#include "preload/lazy/uffd.h"
#include "preload/resolve/daemon_client.h"

namespace larder {

constinit std::atomic<void (*)()> pager_gave_up{nullptr};
constinit std::atomic<void (*)(uint64_t)> pager_about_to_show{nullptr};

namespace {

constexpr uint32_t kWaiters = 512;  // threads that wait for a page; more are sent back to fault again
constexpr int kFutile = 32;         // times that a chunk may be said to be there and its page is not
constexpr unsigned long kStack = 64 * 1024;
// Pages shown at a fault: as many as the kernel maps around one of its own, doubled for a sequential reader. One page
// costs about 1 us, a fault about 10; at 1 MiB another thread's fault waits 0.3 ms for its turn.
constexpr uint32_t kFirstWindow = 64 * 1024, kLastWindow = 1024 * 1024;
constexpr uint32_t kMaxAdvices = 8;  // messages for one advice: 1 GiB of chunks of 256 KiB

constexpr uint32_t kIdle = 0, kPosted = 1, kDone = 2;
constexpr uint32_t kStarting = 0, kRunning = 1, kFailed = 2;

enum class Wait : uint8_t { kNew, kFetch, kSlot };

struct Waiter {
  uint64_t address;  // of the page
  Wait wait;
  uint32_t word;  // of the chunk, when it was looked at last
  int futile;
};

// What the program's threads and the pager share.
struct Shared {
  std::atomic<uint32_t> state{kIdle};
  PagerRequest request;
  std::atomic<uint32_t> status{kStarting};
  std::atomic<int> tid{0};  // the kernel clears it
  int pid = 0;
  long start_error = 0;
  bool adopt = false;
  char* stack = nullptr;
  char* wakeup_page = nullptr;  // a page registered like the mappings: MADV_DONTNEED on it is a message
};

constinit Shared shared;
constexpr auto& ranges = PagedFiles::ranges;
Waiter waiters[kWaiters];
constinit uint32_t waiter_count = 0;
constinit uint64_t page = 4096;
constinit uint64_t last_woken = 0;  // without minor faults: address and word of the last page that was there
constinit uint32_t last_word = 0;
constinit int last_futile = 0;

uint64_t round_up(uint64_t n) {
  return (n + page - 1) & ~(page - 1);
}

// Which file, or -1. A shared mapping is the kernel's own, of a file that has become whole and was mapped before as
// well.
int file_of(const Mapping& m) {
  return m.shared ? -1 : PagedFiles::find(m.dev, m.inode);
}

// ---- what the kernel reports ----------------------------------------------------------------------------------------

void unmapped(uint64_t start, uint64_t end) {
  ranges.erase(start, end);
  uffd::wake(start, end - start);
  for (uint32_t i = 0; i < waiter_count; ++i)
    if (waiters[i].address >= start && waiters[i].address < end) waiters[i].wait = Wait::kNew;
  PagedFiles::drop_unused(ChunkFetches::forget_file);
}

void faulted(uint64_t address) {
  if (waiter_count == kWaiters) return uffd::wake(address, page);
  waiters[waiter_count++] = {address, Wait::kNew, 0, 0};
}

void take_message(const uffd_msg& m) {
  switch (m.event) {
    case UFFD_EVENT_PAGEFAULT:
      return faulted(m.arg.pagefault.address & ~(page - 1));
    case UFFD_EVENT_UNMAP:
      return unmapped(m.arg.remove.start, m.arg.remove.end);
    case UFFD_EVENT_REMAP:
      return ranges.move(m.arg.remap.from, m.arg.remap.to, m.arg.remap.len);
    default:
      return;  // UFFD_EVENT_REMOVE: its pages fault again. That of the wake-up page: the request is looked for anyway
  }
}

void read_messages() {
  uffd_msg messages[16];
  for (;;) {
    const long n = sys::call(SYS_read, uffd::descriptor(), sys::arg(messages), sizeof(messages));
    if (n <= 0) return;
    for (long i = 0; i < n / static_cast<long>(sizeof(uffd_msg)); ++i)
      take_message(messages[i]);
  }
}

// Afterwards the table is what was true at some time since the call.
void settle() {
  read_messages();
  while (uffd::mappings_change()) {
    sys::wait_fd(uffd::descriptor(), POLLIN, 1);
    read_messages();
  }
}

// ---- places ---------------------------------------------------------------------------------------------------------

// A mapping that grew in place is not reported. The kernel's list tells what is at the address: -ENOENT nothing,
// -EINVAL something else.
int adopt_place(uint64_t address) {
  int found = -ENOENT;
  const int r = for_each_mapping([&](const Mapping& m) {
    if (address < m.start || address >= m.end) return;
    const int file = file_of(m);
    found = file >= 0 && ranges.insert({m.start, m.end, m.offset, static_cast<uint32_t>(file), 0, 0}) ? 0 : -EINVAL;
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
  for (int attempt = 0; attempt < 100; ++attempt) {
    const long r = uffd::poison(address, page);
    if (r == -ENOSYS) break;
    if (r != -EAGAIN) return uffd::wake(address, page);  // done, or the page came meanwhile, or the mapping went
    settle();
  }
  sys::call(SYS_mprotect, sys::arg(reinterpret_cast<void*>(address)), static_cast<long>(page), PROT_NONE);
  uffd::wake(address, page);
}

ChunkWords chunk_words(const PagedFile& f) {
  return {f.map->words, f.map->chunk_shift, f.map->size};
}

// Where the pages of the first `count` chunks of a run end, in the file.
uint64_t end_of(const ChunkWords& chunks, const ChunkRun& run, uint32_t count) {
  const uint64_t end = chunks.start_of(run.first + count);
  return end < chunks.size ? end : round_up(chunks.size);
}

// Shows the page, and those after it in chunks that are there: 0. -ENOENT: not there. -EAGAIN: the mappings change.
int show(MappedRange& r, const PagedFile& f, uint64_t address) {
  const uint64_t offset = r.file_offset(address);
  const bool sequential = address == r.next && r.window >= kFirstWindow;
  r.window = sequential && r.window < kLastWindow ? r.window * 2 : sequential ? r.window : kFirstWindow;
  const ChunkWords chunks = chunk_words(f);
  const ChunkRun run = find_run(chunks, offset, offset + r.window);
  if (run.count == 0) return -ENOENT;
  uint64_t end = address + (end_of(chunks, run, run.count) - offset);
  if (end > r.end) end = r.end;
  if (end - address > r.window) end = address + r.window;
  if (auto told = pager_about_to_show.load(std::memory_order_relaxed)) told(offset);
  const long n = uffd::show(address, end, page);
  if (n == -EAGAIN) return -EAGAIN;
  const uint32_t same = unchanged(chunks, run);
  if (n < 0 || same == 0) return -ENOENT;
  const uint64_t shown = same < run.count ? end_of(chunks, run, same) - offset : static_cast<uint64_t>(n);
  const uint64_t length = shown < static_cast<uint64_t>(n) ? shown : static_cast<uint64_t>(n);
  r.next = address + length;
  uffd::wake(address, length);
  tell_marks(chunks, run, offset + length, f.dataset_id, f.handle_inode);
  return 0;
}

// Without minor faults: whoever waits looks again, and finds the page or faults again.
int wake_to_look(uint64_t address, uint32_t word) {
  const bool again = last_woken == address && last_word == word;
  last_futile = again ? last_futile + 1 : 0;
  last_woken = address;
  last_word = word;
  if (last_futile > kFutile) return -ENOENT;
  uffd::wake(address, page);
  return 0;
}

// ---- chunks that were asked for -----------------------------------------------------------------

// Calls f for the waiters of a chunk; those for which it returns true are done.
template <typename Each>
void for_waiters(uint32_t file, uint32_t chunk, Each f) {
  for (uint32_t i = 0; i < waiter_count;) {
    Waiter& w = waiters[i];
    const MappedRange* r = ranges.find(w.address);
    const bool gone = r == nullptr;
    const bool ours =
        !gone && r->file == file && r->file_offset(w.address) >> PagedFiles::get(file).map->chunk_shift == chunk;
    if (w.wait == Wait::kSlot || gone) w.wait = Wait::kNew;
    if (ours && f(w))
      waiters[i] = waiters[--waiter_count];
    else
      ++i;
  }
}

// give_up() may settle and so change the table of waiters: one at a time.
void give_up_all(uint32_t file, uint32_t chunk) {
  for (uint64_t address = 1; address != 0;) {
    address = 0;
    for_waiters(file, chunk, [&](Waiter& w) {
      if (address != 0) return false;
      address = w.address;
      return true;
    });
    if (address != 0) give_up(address);
    if (!PagedFiles::is_used(file)) return;
  }
}

void fetch_ended(uint32_t file, uint32_t chunk, bool arrived) {
  if (arrived)
    for_waiters(file, chunk, [](Waiter& w) { return w.wait = Wait::kNew, false; });
  else
    give_up_all(file, chunk);
}

// ---- serving --------------------------------------------------------------------------------------------------------

// Is the waiter done with?
bool serve(Waiter& w) {
  int error;
  MappedRange* r = place(w.address, &error);
  if (r == nullptr) {
    if (error == -ENOENT)
      uffd::wake(w.address, page);  // nothing is mapped there any more, as the thread will see
    else
      give_up(w.address);
    return true;
  }
  const uint32_t file = r->file;
  const PagedFile& f = PagedFiles::get(file);
  const uint64_t offset = r->file_offset(w.address);
  if (offset >= f.map->size) return give_up(w.address), true;
  const uint32_t chunk = static_cast<uint32_t>(offset >> f.map->chunk_shift);
  const uint32_t word = f.map->words[chunk].load(std::memory_order_acquire);
  if (word & kChunkPresent) {
    const int e = uffd::has_minor() ? show(*r, f, w.address) : wake_to_look(w.address, word);
    if (e == 0 && !uffd::has_minor() && (word & kChunkMark)) advise_chunks(f.dataset_id, f.handle_inode, chunk, 1);
    if (e == 0) return true;
    if (e == -EAGAIN) return settle(), false;
    w.futile = same_chunk(w.word, word) ? w.futile + 1 : 0;
    if (w.futile > kFutile) return give_up(w.address), true;
  }
  w.word = word;
  w.wait = ChunkFetches::want(file, chunk) ? Wait::kFetch : Wait::kSlot;
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
    if (done)
      waiters[i] = waiters[--waiter_count];
    else
      waiters[i++] = w;
  }
}

// ---- requests -------------------------------------------------------------------------------------------------------

long start_serving(const PagerRequest& e) {
  settle();
  const int file = PagedFiles::intern(e.file);
  if (file < 0) return -ENOMEM;
  long r = uffd::add(e.start, e.length, uffd::has_minor());
  if (r == 0 && !ranges.insert({e.start, e.start + e.length, e.offset, static_cast<uint32_t>(file), 0, 0})) r = -ENOMEM;
  if (r != 0) PagedFiles::drop_unused(ChunkFetches::forget_file);
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
  const PagedFile& f = PagedFiles::get(r->file);
  const uint64_t from = r->file_offset(start);
  const uint64_t end = length < r->end - start ? from + length : r->file_offset(r->end);
  if (from >= f.map->size || from >= end) return 0;
  const uint32_t last = static_cast<uint32_t>(((end < f.map->size ? end : f.map->size) - 1) >> f.map->chunk_shift);
  uint32_t chunk = static_cast<uint32_t>(from >> f.map->chunk_shift);
  for (uint32_t sent = 0; sent < kMaxAdvices && chunk <= last; chunk += kMaxChunkCount, ++sent) {
    const uint32_t left = last - chunk + 1;
    advise_chunks(f.dataset_id, f.handle_inode, chunk, left < kMaxChunkCount ? left : kMaxChunkCount);
  }
  return 0;
}

long carry_out(const PagerRequest& e) {
  switch (e.order) {
    case Order::kMap:
      return start_serving(e);
    case Order::kAllowFork:
      return set_fork(MADV_DOFORK);
    case Order::kForbidFork:
      return set_fork(MADV_DONTFORK);
    case Order::kAdvise:
      return advise_range(e.start, e.length);
  }
  return -EINVAL;
}

void take_request() {
  if (shared.state.load(std::memory_order_acquire) != kPosted) return;
  shared.request.result = carry_out(shared.request);
  shared.state.store(kDone, std::memory_order_release);
  futex_wake(&shared.state);
}

// ---- the thread -----------------------------------------------------------------------------------------------------

// In a fork's child: what the kernel says is mapped, not what the parent's table said at some moment of the fork.
long adopt_mappings() {
  long problem = 0;
  const int r = for_each_mapping([&](const Mapping& m) {
    const int file = file_of(m);
    if (file < 0) return;
    const auto length = static_cast<long>(m.end - m.start);
    long e = uffd::add(m.start, m.end - m.start, uffd::has_minor());
    if (e == 0) e = sys::call(SYS_madvise, static_cast<long>(m.start), length, MADV_DONTFORK);
    if (e == 0 && !ranges.insert({m.start, m.end, m.offset, static_cast<uint32_t>(file), 0, 0})) e = -ENOMEM;
    if (e != 0) problem = e;
  });
  PagedFiles::drop_unused(ChunkFetches::forget_file);
  return r < 0 ? r : problem;
}

long prepare() {
  if (const long r = leave_descriptors()) return r;
  page = paged_page();
  if (const long r = uffd::open()) return r;
  if (const long r = uffd::add(reinterpret_cast<uint64_t>(shared.wakeup_page), page, false)) return r;
  return shared.adopt ? adopt_mappings() : 0;
}

// Waits for the kernel, for larderd, or until something is due.
void wait_for_work() {
  struct pollfd polled[kFetches + 1];
  int64_t due = sys::now_ms() + 60'000;
  const nfds_t n = ChunkFetches::prepare(polled, &due, fetch_ended);
  polled[n] = {uffd::descriptor(), POLLIN, 0};
  const int64_t now = sys::now_ms();
  for (uint32_t i = 0; i < waiter_count; ++i)
    if (waiters[i].wait == Wait::kNew) due = now;
  const int64_t ms = due > now ? due - now : 0;
  struct timespec t = {ms / 1000, (ms % 1000) * 1000000};
  if (sys::call(SYS_ppoll, sys::arg(polled), static_cast<long>(n + 1), sys::arg(&t), 0, 8) >= 0)
    ChunkFetches::finish(polled, n, fetch_ended);
}

void pager_main() {
  sys::call(SYS_prctl, PR_SET_NAME, sys::arg("larder-pager"));
  const long r = prepare();
  shared.start_error = r;
  shared.status.store(r == 0 ? kRunning : kFailed, std::memory_order_release);
  futex_wake(&shared.status);
  while (r == 0) {
    wait_for_work();
    read_messages();
    take_request();
    serve_new();
  }
  for (;;)
    sys::call(SYS_exit, 0);
}

}  // namespace

// ---- the program's side ---------------------------------------------------------------------------------------------

long start_pager(bool adopt) {
  shared.state.store(kIdle, std::memory_order_relaxed);
  shared.status.store(kStarting, std::memory_order_relaxed);
  shared.adopt = adopt;
  ranges.clear();
  waiter_count = 0;
  ChunkFetches::forget_all();
  if (shared.wakeup_page == nullptr) {
    shared.wakeup_page =
        static_cast<char*>(sys::mmap(nullptr, paged_page(), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (shared.wakeup_page == nullptr) return -ENOMEM;
  }
  if (shared.stack == nullptr) shared.stack = make_stack(kStack);
  if (shared.stack == nullptr) return -ENOMEM;
  while (shared.pid == sys::getpid() && shared.tid.load(std::memory_order_acquire) != 0)
    sys::sleep_ms(1);  // one that failed is leaving
  shared.pid = sys::getpid();
  const long tid = spawn_thread(pager_main, shared.stack, &shared.tid);
  if (tid < 0) return tid;
  while (shared.status.load(std::memory_order_acquire) == kStarting)
    futex_wait(&shared.status, kStarting, 1000);
  return shared.start_error;
}

bool pager_runs() {
  return shared.status.load(std::memory_order_acquire) == kRunning && shared.pid == sys::getpid();
}

bool pager_has_files() {
  return PagedFiles::any();
}

bool pager_knows_file(uint64_t dev, uint64_t inode) {
  return PagedFiles::find(dev, inode) >= 0;
}

uint64_t paged_page() {
  return getauxval(AT_PAGESZ);
}

long run_request(const PagerRequest& request) {
  shared.request = request;
  shared.state.store(kPosted, std::memory_order_release);
  // Wakes the pager: the kernel holds us here until the pager has read of it.
  sys::call(SYS_madvise, sys::arg(shared.wakeup_page), static_cast<long>(paged_page()), MADV_DONTNEED);
  while (shared.state.load(std::memory_order_acquire) != kDone) {
    if (shared.tid.load(std::memory_order_relaxed) == 0) return -EIO;
    futex_wait(&shared.state, kPosted, 1000);
  }
  const long result = shared.request.result;
  shared.state.store(kIdle, std::memory_order_relaxed);
  return result;
}

}  // namespace larder
