#include "preload/lazy/lazy_read.h"

#include <errno.h>
#include <unistd.h>

#include "preload/base/sys.h"
#include "preload/lazy/lazy_files.h"
#include "preload/resolve/cache_files.h"
#include "preload/resolve/daemon_client.h"

namespace larder {
namespace {

constexpr uint32_t kAtOnce = kMaxChunkCount;
constexpr int kFutile = 4;     // times that a chunk is there and goes while it is read, before it is asked for
constexpr int kMostWaits = 8;  // times that a chunk may come and go again before it is read, however long each lasts
constexpr uint64_t kAheadBytes = 32 << 20;  // of a long read, with the chunk that is waited for

}  // namespace

void advise_chunks(const Lazy& lazy, uint64_t offset, uint64_t length) {
  if (offset >= lazy.size || length == 0) return;
  const uint32_t first = static_cast<uint32_t>(offset >> lazy.chunk_shift);
  const uint64_t end = length < lazy.size - offset ? offset + length : lazy.size;
  uint32_t count = static_cast<uint32_t>((end - 1) >> lazy.chunk_shift) - first + 1;
  if (count > kAtOnce) count = kAtOnce;
  advise_chunks(lazy.dataset_id, lazy.handle_inode, first, count);
}

namespace {

// What of [offset, end) lies in the first `count` chunks of a run.
uint64_t bytes_in(const ChunkWords& chunks, const ChunkRun& run, uint32_t count, uint64_t offset, uint64_t end) {
  if (count == 0) return 0;
  const uint64_t run_end = chunks.start_of(run.first + count);
  return (run_end < end ? run_end : end) - offset;
}

// A part of a read, from chunks that are there. Bytes, -errno, or 0: read again (the first is absent, went meanwhile,
// or the table changed).
ssize_t read_run(Lazy& lazy, char* buffer, size_t length, uint64_t offset) {
  const ChunkWords chunks = chunk_words(lazy);
  const uint64_t end = offset + length;
  const ChunkRun run = find_run(chunks, offset, end);
  const bool present = run.count > 0;
  const auto wanted = static_cast<long>(bytes_in(chunks, run, run.count, offset, end));
  long n = 0;
  if (present) n = sys::call(SYS_pread64, lazy.data_fd, sys::arg(buffer), wanted, static_cast<long>(offset));
  const uint32_t same = unchanged(chunks, run);
  if ((present && !data_is_ours(lazy)) || !unchanged(lazy)) return reacquire(lazy);
  if (same == 0) return 0;
  if (n == 0) return -EIO;  // the data file is shorter than its map says
  const auto good = static_cast<ssize_t>(bytes_in(chunks, run, same, offset, end));
  if (n > 0) tell_marks(chunks, run, offset + static_cast<uint64_t>(good), lazy.dataset_id, lazy.handle_inode);
  return n < good ? n : good;
}

bool is_present(const Lazy& lazy, uint64_t offset) {
  return lazy.map->words[offset >> lazy.chunk_shift].load(std::memory_order_acquire) & kChunkPresent;
}

// Waits for the first chunk of a range that will be read; the others will be wanted next. Nothing is kept open
// meanwhile: a signal's handler may never return.
int fetch_here(Lazy& lazy, uint64_t offset, uint64_t length) {
  if (is_present(lazy, offset)) return 0;
  const uint64_t end = offset + (length < kAheadBytes ? length : kAheadBytes);
  const uint32_t first = static_cast<uint32_t>(offset >> lazy.chunk_shift);
  const uint32_t count = static_cast<uint32_t>((end - 1) >> lazy.chunk_shift) - first + 1;
  const bool alone = lazy.own_map != 0;
  lazy.close_own();
  const int error =
      ask_chunks(lazy.dataset_id, lazy.handle_inode, first, count < kAtOnce ? count : kAtOnce, kChunksAhead);
  return error == 0 && alone ? reacquire(lazy) : error;
}

}  // namespace

ssize_t lazy_pread_present(Lazy& lazy, void* buffer, size_t length, uint64_t offset) {
  if (offset >= lazy.size) return 0;
  if (length > lazy.size - offset) length = lazy.size - offset;
  size_t done = 0;
  for (int futile = 0; done < length && futile < kFutile;) {
    const ssize_t n = read_run(lazy, static_cast<char*>(buffer) + done, length - done, offset + done);
    if (n < 0) return done > 0 ? static_cast<ssize_t>(done) : n;
    if (n == 0 && !is_present(lazy, offset + done)) break;
    futile = n == 0 ? futile + 1 : 0;
    done += static_cast<size_t>(n);
  }
  return static_cast<ssize_t>(done);
}

int ChunkWait::wait(Lazy& lazy, uint64_t offset, uint64_t length) {
  const int error = fetch_here(lazy, offset, length);
  if (error != 0) return error;
  // It may be evicted again before it is read; that this happens time after time is a daemon that is ill.
  const int64_t now = sys::now_ms();
  if (give_up_ == 0) give_up_ = now + 2 * patience(lazy.dataset_id).wait_ms;
  return ++waits_ > kMostWaits && now > give_up_ ? -EIO : 0;
}

ssize_t lazy_pread(Lazy& lazy, void* buffer, size_t length, uint64_t offset) {
  if (offset >= lazy.size) return 0;
  if (length > lazy.size - offset) length = lazy.size - offset;
  size_t done = 0;
  ChunkWait chunks;
  while (done < length) {
    ssize_t n = lazy_pread_present(lazy, static_cast<char*>(buffer) + done, length - done, offset + done);
    if (n == 0) n = chunks.wait(lazy, offset + done, length - done);
    if (n < 0) return done > 0 ? static_cast<ssize_t>(done) : n;
    if (n > 0) chunks.went_on();
    done += static_cast<size_t>(n);
  }
  return static_cast<ssize_t>(done);
}

int open_whole(const Lazy& lazy) {
  for (int attempt = 0; attempt < kOpenAttempts; ++attempt) {
    const int fd = open_object(lazy.dataset_id, lazy.oid, O_RDONLY | O_CLOEXEC);
    if (fd != -ENOENT) return fd;
    if (int error = ask_chunks(lazy.dataset_id, lazy.handle_inode, 0, 0, kChunksWhole)) return error;
  }
  return -EIO;
}

}  // namespace larder
