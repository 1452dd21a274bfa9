#include "preload/lazy/pager.h"

#include <errno.h>
#include <sys/auxv.h>
#include <sys/prctl.h>

#include "preload/lazy/chunk_fetches.h"
#include "preload/lazy/fault_server.h"
#include "preload/lazy/paged_files.h"
#include "preload/lazy/pager_thread.h"
#include "preload/lazy/proc_maps.h"
#include "preload/lazy/uffd.h"
#include "preload/resolve/daemon_client.h"

namespace larder {

constinit std::atomic<void (*)()> pager_gave_up{nullptr};
constinit std::atomic<void (*)(uint64_t)> pager_about_to_show{nullptr};

namespace {

constexpr unsigned long kStack = 64 * 1024;
// No wait for the pager is without an end. It takes a request in less than a millisecond and serves one in a few, more
// if thousands of mappings are to be told of a fork.
constexpr int kRingAgainMs = 200, kUnheardMs = 10'000, kUnservedMs = 120'000;
constexpr uint32_t kMaxAdvices = 8;  // messages for one advice: 1 GiB of chunks of 256 KiB

constexpr uint32_t kIdle = 0, kPosted = 1, kDone = 2, kTaken = 3;
constexpr uint32_t kStarting = 0, kRunning = 1, kFailed = 2;

// What the program's threads and the pager share.
struct Shared {
  std::atomic<uint32_t> state{kIdle};
  std::atomic<bool> lost{false};  // the pager took a request and never ended it: there will be no other
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

// ---- requests -------------------------------------------------------------------------------------------------------

long start_serving(const PagerRequest& e) {
  fault_server::settle();
  const int file = PagedFiles::intern(e.file);
  if (file < 0) return -ENOMEM;
  long r = uffd::add(e.start, e.length, uffd::has_minor());
  if (r == 0 && !ranges.insert({e.start, e.start + e.length, e.offset, static_cast<uint32_t>(file), 0, 0})) r = -ENOMEM;
  if (r != 0) PagedFiles::drop_unused(ChunkFetches::forget_file);
  return r;
}

long set_fork(int advice) {
  fault_server::settle();
  for (uint32_t i = 0; i < ranges.size(); ++i) {
    const uint64_t start = ranges[i].start, length = ranges[i].end - start;
    sys::call(SYS_madvise, static_cast<long>(start), static_cast<long>(length), advice);
  }
  return 0;
}

long advise_range(uint64_t start, uint64_t length) {
  fault_server::settle();
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
  uint32_t posted = kPosted;
  if (!shared.state.compare_exchange_strong(posted, kTaken, std::memory_order_acq_rel)) return;
  shared.request.result = carry_out(shared.request);
  shared.state.store(kDone, std::memory_order_release);
  futex_wake(&shared.state);
}

// ---- the thread -----------------------------------------------------------------------------------------------------

// In a fork's child: what the kernel says is mapped, not what the parent's table said at some moment of the fork.
long adopt_mappings() {
  long problem = 0;
  const int r = for_each_mapping([&](const MapsEntry& m) {
    const int file = fault_server::file_of(m);
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
  if (sys::filtered.any.load() && (sys::is_forbidden(SYS_ppoll) || sys::is_forbidden(SYS_ioctl))) return -EPERM;
  if (const long r = leave_descriptors()) return r;
  if (const long r = uffd::open()) return r;
  if (const long r = uffd::add(reinterpret_cast<uint64_t>(shared.wakeup_page), paged_page(), false)) return r;
  return shared.adopt ? adopt_mappings() : 0;
}

// Waits for the kernel, for larderd, or until something is due.
void wait_for_work() {
  struct pollfd polled[kFetches + 1];
  int64_t due = sys::now_ms() + 60'000;
  const nfds_t n = ChunkFetches::prepare(polled, &due, fault_server::fetch_ended);
  polled[n] = {uffd::descriptor(), POLLIN, 0};
  const int64_t now = sys::now_ms();
  if (fault_server::has_new_faults()) due = now;
  const int64_t ms = due > now ? due - now : 0;
  struct timespec t = {ms / 1000, (ms % 1000) * 1000000};
  if (sys::call(SYS_ppoll, sys::arg(polled), static_cast<long>(n + 1), sys::arg(&t), 0, 8) >= 0)
    ChunkFetches::finish(polled, n, fault_server::fetch_ended);
}

[[noreturn]] void end_thread() {
  for (;;)
    sys::call(SYS_exit, 0);
}

void pager_main() {
  sys::call(SYS_prctl, PR_SET_NAME, sys::arg("larder-pager"));
  const long r = prepare();
  shared.start_error = r;
  shared.status.store(r == 0 ? kRunning : kFailed, std::memory_order_release);
  futex_wake(&shared.status);
  if (r != 0) end_thread();
  for (;;) {
    wait_for_work();
    fault_server::read_messages();
    take_request();
    fault_server::serve_faults();
  }
}

}  // namespace

// ---- the program's side ---------------------------------------------------------------------------------------------

long start_pager(bool adopt) {
  shared.state.store(kIdle, std::memory_order_relaxed);
  shared.lost.store(false, std::memory_order_relaxed);
  shared.status.store(kStarting, std::memory_order_relaxed);
  shared.adopt = adopt;
  fault_server::start();
  ChunkFetches::forget_all();
  if (shared.wakeup_page == nullptr) {
    shared.wakeup_page =
        static_cast<char*>(sys::mmap(nullptr, paged_page(), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (shared.wakeup_page == nullptr) return -ENOMEM;
  }
  if (shared.stack == nullptr) shared.stack = make_stack(kStack);
  if (shared.stack == nullptr) return -ENOMEM;
  const int64_t begun = sys::now_ms();
  while (shared.pid == sys::getpid() && shared.tid.load(std::memory_order_acquire) != 0) {
    if (sys::now_ms() - begun > kUnheardMs) return -EAGAIN;
    sys::sleep_ms(1);  // one that failed is leaving
  }
  shared.pid = sys::getpid();
  const bool free = !sys::filtered.any.load();  // a thread has the filters of who starts it
  sys::filtered.free_low.store(free ? reinterpret_cast<uint64_t>(shared.stack) - kStack : ~0ULL);
  sys::filtered.free_high.store(free ? reinterpret_cast<uint64_t>(shared.stack) : 0);
  const long tid = spawn_thread(pager_main, shared.stack, &shared.tid);
  if (tid < 0) return tid;
  while (shared.status.load(std::memory_order_acquire) == kStarting) {
    if (shared.tid.load(std::memory_order_relaxed) == 0 || sys::now_ms() - begun > kUnservedMs) return -EAGAIN;
    futex_wait(&shared.status, kStarting, 1000);
  }
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

namespace {

// Wakes the pager: the kernel holds us here until the pager has read of it. A page that mlockall locked cannot be given
// back, so it is unlocked first.
long ring() {
  const auto page = static_cast<long>(paged_page());
  long r = 0;
  for (int attempt = 0; attempt < 3; ++attempt) {
    r = sys::call(SYS_madvise, sys::arg(shared.wakeup_page), page, MADV_DONTNEED);
    if (r != -EINVAL) break;
    sys::call(SYS_munlock, sys::arg(shared.wakeup_page), page);
  }
  return r;
}

// Waits for the end of a request: 0, or -EIO if it is not the pager's to end any more.
long await_request() {
  const int64_t begun = sys::now_ms();
  for (;;) {
    const uint32_t state = shared.state.load(std::memory_order_acquire);
    if (state == kDone) return 0;
    if (shared.tid.load(std::memory_order_relaxed) == 0) return -EIO;
    const int64_t waited = sys::now_ms() - begun;
    uint32_t posted = kPosted;
    if (waited > kUnheardMs && shared.state.compare_exchange_strong(posted, kIdle, std::memory_order_acq_rel))
      return -EIO;
    if (waited > kUnservedMs) return shared.lost.store(true, std::memory_order_release), -EIO;
    futex_wait(&shared.state, state, kRingAgainMs);
    if (shared.state.load(std::memory_order_relaxed) == kPosted) ring();
  }
}

}  // namespace

long run_request(const PagerRequest& request) {
  if (shared.lost.load(std::memory_order_acquire)) return -EIO;
  shared.request = request;
  shared.state.store(kPosted, std::memory_order_release);
  uint32_t posted = kPosted;
  if (ring() == -EPERM && shared.state.compare_exchange_strong(posted, kIdle)) return -EPERM;  // a filter forbids it
  if (const long r = await_request()) return r;
  const long result = shared.request.result;
  shared.state.store(kIdle, std::memory_order_relaxed);
  return result;
}

}  // namespace larder
