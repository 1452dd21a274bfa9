#include "preload/lazy/paged_files.h"

#include "preload/base/sys.h"

namespace larder {
namespace {

// `valid` is the last word of making an entry and the first of giving it up, in one cache line with what it speaks of.
struct alignas(128) Entry {
  std::atomic<bool> valid{false};
  PagedFile f;
};

constinit Entry entries[kPagedFiles];
constinit std::atomic<uint32_t> used_end{0};  // none beyond was ever used

void unmap_map(const PagedFile& f) {
  sys::munmap(const_cast<ChunkMap*>(f.map), f.map_bytes);
}

}  // namespace

RangeTable PagedFiles::ranges;

int PagedFiles::find(uint64_t dev, uint64_t inode) {
  const uint32_t n = used_end.load(std::memory_order_acquire);
  for (uint32_t i = 0; i < n && inode != 0; ++i) {
    const Entry& e = entries[i];
    if (e.valid.load(std::memory_order_acquire) && e.f.inode == inode && e.f.dev == dev) return static_cast<int>(i);
  }
  return -1;
}

bool PagedFiles::any() {
  for (uint32_t i = 0; i < used_end.load(std::memory_order_acquire); ++i)
    if (entries[i].valid.load(std::memory_order_acquire)) return true;
  return false;
}

const PagedFile& PagedFiles::get(uint32_t index) {
  return entries[index].f;
}
bool PagedFiles::is_used(uint32_t index) {
  return entries[index].valid.load(std::memory_order_relaxed);
}

int PagedFiles::intern(const PagedFile& f) {
  if (const int known = find(f.dev, f.inode); known >= 0) {
    unmap_map(f);
    entries[known].f.wait_ms = f.wait_ms;
    entries[known].f.hasty = f.hasty;
    return known;
  }
  for (uint32_t i = 0; i < kPagedFiles; ++i) {
    if (entries[i].valid.load(std::memory_order_relaxed)) continue;
    entries[i].f = f;
    entries[i].valid.store(true, std::memory_order_release);
    if (i >= used_end.load(std::memory_order_relaxed)) used_end.store(i + 1, std::memory_order_release);
    return static_cast<int>(i);
  }
  return -1;
}

void PagedFiles::drop_unused(void (*dropped)(uint32_t index)) {
  for (uint32_t i = 0; i < used_end.load(std::memory_order_relaxed); ++i) {
    Entry& e = entries[i];
    if (!e.valid.load(std::memory_order_relaxed) || ranges.uses(i)) continue;
    dropped(i);
    e.valid.store(false, std::memory_order_release);
    unmap_map(e.f);
  }
}

}  // namespace larder
