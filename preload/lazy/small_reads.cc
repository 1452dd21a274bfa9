#include "preload/lazy/small_reads.h"

#include <string.h>
#include <sys/mman.h>

#include "preload/base/sys.h"
#include "preload/resolve/daemon_client.h"

namespace larder {
namespace {

constexpr uint32_t kBuffers = 16;  // objects that are read so at once; more take turns
constexpr size_t kAhead = 64 * 1024;
constexpr size_t kSmall = 16 * 1024;  // larger ones gain nothing

// Read without a lock: the stamp is odd while the buffer is filled, and another one afterwards.
struct Buffer {
  std::atomic<int> filler{0};  // pid of whoever fills it
  std::atomic<uint32_t> stamp{0};
  ObjectId oid{};
  // Each is loaded once for a copy: even if they are of two fillings, what they say lies within the kAhead bytes.
  std::atomic<uint64_t> begin{0};
  std::atomic<size_t> bytes{0};
  std::atomic<char*> base{nullptr};  // kAhead bytes, mapped at the first use
  // Where the last small read ended, and of which object: a hint alone.
  std::atomic<uint64_t> last_object{0}, last_end{0};
};
constinit Buffer buffers[kBuffers] = {};

Buffer& buffer_of(ObjectId oid) {
  return buffers[(oid.lo ^ oid.lo >> 17) % kBuffers];
}

// 0: it has not all of it.
size_t copy_from(const Buffer& b, ObjectId oid, char* out, size_t length, uint64_t offset) {
  const uint32_t stamp = b.stamp.load(std::memory_order_acquire);
  const uint64_t begin = b.begin.load(std::memory_order_relaxed);
  const size_t bytes = b.bytes.load(std::memory_order_relaxed);
  if ((stamp & 1) || b.oid != oid || offset < begin || offset - begin > bytes || length > bytes - (offset - begin))
    return 0;
  memcpy(out, b.base.load(std::memory_order_relaxed) + (offset - begin), length);
  std::atomic_thread_fence(std::memory_order_acquire);
  return b.stamp.load(std::memory_order_relaxed) == stamp ? length : 0;
}

// For one thread at a time; another one, also a signal's handler in the middle of it, does without. A fork in the
// middle leaves the parent's pid in the child's copy.
bool may_fill(Buffer& b) {
  if (!own_process()) return false;  // a vfork child shares our memory
  const int me = process.pid.load(std::memory_order_relaxed);
  int seen = b.filler.load(std::memory_order_relaxed);
  return seen != me && b.filler.compare_exchange_strong(seen, me, std::memory_order_acquire);
}

// Bytes, or -errno; 0: not there yet, or no memory for it.
ssize_t fill(Buffer& b, Lazy& lazy, uint64_t offset, size_t bytes) {
  b.stamp.store(b.stamp.load(std::memory_order_relaxed) | 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  b.bytes.store(0, std::memory_order_relaxed);
  char* base = b.base.load(std::memory_order_relaxed);
  if (base == nullptr)
    base = static_cast<char*>(sys::mmap(nullptr, kAhead, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  b.base.store(base, std::memory_order_relaxed);
  const ssize_t n = base == nullptr ? 0 : lazy_pread_present(lazy, base, bytes, offset);
  if (n > 0) {
    b.oid = lazy.oid;
    b.begin.store(offset, std::memory_order_relaxed);
    b.bytes.store(static_cast<size_t>(n), std::memory_order_relaxed);
  }
  b.stamp.store((b.stamp.load(std::memory_order_relaxed) | 1) + 1, std::memory_order_release);
  return n;
}

bool goes_on(const Buffer& b, const Lazy& lazy, uint64_t offset) {
  return b.last_object.load(std::memory_order_relaxed) == lazy.oid.lo &&
         b.last_end.load(std::memory_order_relaxed) == offset;
}

void note(Buffer& b, const Lazy& lazy, uint64_t end) {
  b.last_object.store(lazy.oid.lo, std::memory_order_relaxed);
  b.last_end.store(end, std::memory_order_relaxed);
}

}  // namespace

ssize_t buffered_pread(Lazy& lazy, void* buffer, size_t length, uint64_t offset) {
  if (length > kSmall || length == 0 || offset >= lazy.size) return lazy_pread_present(lazy, buffer, length, offset);
  if (length > lazy.size - offset) length = lazy.size - offset;
  Buffer& b = buffer_of(lazy.oid);
  char* out = static_cast<char*>(buffer);
  const bool in_a_row = goes_on(b, lazy, offset);
  note(b, lazy, offset + length);
  if (copy_from(b, lazy.oid, out, length, offset) != 0) return static_cast<ssize_t>(length);
  const size_t ahead = kAhead - offset % kAhead;  // never beyond the chunk
  if (in_a_row && ahead > length && may_fill(b)) {
    const ssize_t n = fill(b, lazy, offset, ahead);
    b.filler.store(0, std::memory_order_release);
    if (n < 0) return n;
    if (n > 0 && copy_from(b, lazy.oid, out, length, offset) != 0) return static_cast<ssize_t>(length);
  }
  return lazy_pread_present(lazy, buffer, length, offset);
}

}  // namespace larder
