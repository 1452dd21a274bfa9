#include "preload/lazy/fault_server.h"

#include <errno.h>
#include <linux/userfaultfd.h>

#include "preload/lazy/chunk_fetches.h"
#include "preload/lazy/chunk_run.h"
#include "preload/lazy/paged_files.h"
#include "preload/lazy/pager.h"
#include "preload/lazy/uffd.h"
#include "preload/resolve/daemon_client.h"

namespace larder::fault_server {
namespace {

constexpr uint32_t kWaiters = 512;  // threads that wait for a page; more are sent back to fault again
constexpr int kFutile = 32;         // times that a chunk may be said to be there and its page is not
// Pages shown at a fault: as many as the kernel maps around one of its own, doubled for a sequential reader. One page
// costs about 1 us, a fault about 10; at 1 MiB another thread's fault waits 0.3 ms for its turn.
constexpr uint32_t kFirstWindow = 64 * 1024, kLastWindow = 1024 * 1024;

enum class Wait : uint8_t { kNew, kFetch, kSlot };

struct Waiter {
  uint64_t address;  // of the page
  Wait wait;
  uint32_t word;  // of the chunk, when it was looked at last
  int futile;
};

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

// ---- places ---------------------------------------------------------------------------------------------------------

// A mapping that grew in place is not reported. The kernel's list tells what is at the address: -ENOENT nothing,
// -EINVAL something else.
int adopt_place(uint64_t address) {
  int found = -ENOENT;
  const int r = for_each_mapping([&](const MapsEntry& m) {
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

// ---- chunks that were asked for
// --------------------------------------------------------------------------------------

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

// Until the kernel's report of a change is done with: mostly a moment, since the thread that made the change has only
// to wake up. First others get the processor, then it sleeps, longer each time.
class Pause {
 public:
  void wait() {
    if (++turns_ < kYields) return static_cast<void>(sys::call(SYS_sched_yield));
    struct pollfd p = {uffd::descriptor(), POLLIN, 0};
    const struct timespec t = {0, sleep_ns_};
    sys::call(SYS_ppoll, sys::arg(&p), 1, sys::arg(&t), 0, 8);
    if (sleep_ns_ < kLongestNs) sleep_ns_ *= 2;
  }

 private:
  static constexpr int kYields = 50;  // about 20 us
  static constexpr long kLongestNs = 1'000'000;
  int turns_ = 0;
  long sleep_ns_ = 20'000;
};

}  // namespace

void start() {
  page = paged_page();
  PagedFiles::start();
  waiter_count = 0;
}

int file_of(const MapsEntry& m) {
  return m.shared ? -1 : PagedFiles::known(m.dev, m.inode);
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

void settle() {
  Pause pause;
  read_messages();
  while (uffd::mappings_change()) {
    pause.wait();
    read_messages();
  }
}

bool has_new_faults() {
  for (uint32_t i = 0; i < waiter_count; ++i)
    if (waiters[i].wait == Wait::kNew) return true;
  return false;
}

// serve() may add waiters at the end (settle), never take one away.
void serve_faults() {
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

void fetch_ended(uint32_t file, uint32_t chunk, bool arrived) {
  if (arrived)
    for_waiters(file, chunk, [](Waiter& w) { return w.wait = Wait::kNew, false; });
  else
    give_up_all(file, chunk);
}

}  // namespace larder::fault_server
