#include "preload/small_reads.h"

#include <string.h>
#include <sys/mman.h>

#include "preload/miss.h"
#include "preload/sys.h"

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
  uint64_t begin = 0;
  size_t bytes = 0;
  char* base = nullptr;  // kAhead bytes, mapped at the first use
  // Where the last small read ended, and of which object: a hint alone.
  std::atomic<uint64_t> last_object{0}, last_end{0};
};
constinit Buffer buffers[kBuffers] = {};

Buffer& buffer_of(ObjectId oid) { return buffers[(oid.lo ^ oid.lo >> 17) % kBuffers]; }

// 0: it has not all of it.
size_t copy_from(const Buffer& b, ObjectId oid, char* out, size_t length, uint64_t offset) {
  const uint32_t stamp = b.stamp.load(std::memory_order_acquire);
  if ((stamp & 1) || b.oid != oid || offset < b.begin || offset - b.begin > b.bytes || length > b.bytes - (offset - b.begin)) return 0;
  memcpy(out, b.base + (offset - b.begin), length);
  std::atomic_thread_fence(std::memory_order_acquire);
  return b.stamp.load(std::memory_order_relaxed) == stamp ? length : 0;
}

// For one thread at a time; another one, also a signal's handler in the middle of it, does without. A fork in the middle leaves the parent's
// pid in the child's copy.
bool may_fill(Buffer& b) {
  if (!own_process()) return false;  // a vfork child shares our memory
  const int me = sys::getpid();
  int seen = b.filler.load(std::memory_order_relaxed);
  return seen != me && b.filler.compare_exchange_strong(seen, me, std::memory_order_acquire);
}

// Bytes, or -errno. May wait for larderd.
ssize_t fill(Buffer& b, Lazy& lazy, uint64_t offset, size_t bytes) {
  b.stamp.store(b.stamp.load(std::memory_order_relaxed) | 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  b.bytes = 0;
  if (b.base == nullptr) b.base = static_cast<char*>(sys::mmap(nullptr, kAhead, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  const ssize_t n = b.base == nullptr ? -ENOMEM : lazy_pread(lazy, b.base, bytes, offset);
  if (n > 0) {
    b.oid = lazy.oid;
    b.begin = offset;
    b.bytes = static_cast<size_t>(n);
  }
  b.stamp.store((b.stamp.load(std::memory_order_relaxed) | 1) + 1, std::memory_order_release);
  return n;
}

bool goes_on(const Buffer& b, const Lazy& lazy, uint64_t offset) {
  return b.last_object.load(std::memory_order_relaxed) == lazy.oid.lo && b.last_end.load(std::memory_order_relaxed) == offset;
}

void note(Buffer& b, const Lazy& lazy, uint64_t end) {
  b.last_object.store(lazy.oid.lo, std::memory_order_relaxed);
  b.last_end.store(end, std::memory_order_relaxed);
}

}  // namespace

ssize_t buffered_pread(Lazy& lazy, void* buffer, size_t length, uint64_t offset) {
  if (length > kSmall || length == 0 || offset >= lazy.size) return lazy_pread(lazy, buffer, length, offset);
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
    if (n > 0 && copy_from(b, lazy.oid, out, length, offset) != 0) return static_cast<ssize_t>(length);
  }
  return lazy_pread(lazy, buffer, length, offset);
}

}  // namespace larder
