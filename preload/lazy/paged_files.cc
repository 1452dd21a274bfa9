#include "preload/lazy/paged_files.h"

#include "preload/base/sys.h"

namespace larder {
namespace {

constexpr uint32_t kNone = ~0U;

// `valid` is the last word of making an entry and the first of giving it up, in one cache line with what it speaks of.
struct alignas(128) Entry {
  std::atomic<bool> valid{false};
  bool waits = false;     // in the list of those without ranges
  uint32_t shown = 0;     // ranges that show it
  uint32_t next = kNone;  // in that list, or in the list of free ones
  PagedFile f;
};

// Blocks that never move, so that others can read while the table grows.
constexpr uint32_t kBlock = 1024, kBlocks = 4096;
constinit Entry* blocks[kBlocks] = {};
constinit std::atomic<uint32_t> used_end{0};  // none beyond was ever used
constinit uint32_t first_free = kNone, first_unshown = kNone;

// From numbers of files to indexes, by linear probing: an index + 1, 0 for nothing. Rebuilt when files went.
constinit uint32_t* index_table = nullptr;
constinit uint32_t index_slots = 0, index_filled = 0;

Entry& entry(uint32_t i) {
  return blocks[i / kBlock][i % kBlock];
}

void unmap_map(const PagedFile& f) {
  sys::munmap(const_cast<ChunkMap*>(f.map), f.map_bytes);
}

void* fresh_memory(size_t bytes) {
  return sys::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

// ---- entries --------------------------------------------------------------------------------------------------------

// The index of an entry that is not used, or kNone.
uint32_t take_entry() {
  if (first_free != kNone) {
    const uint32_t i = first_free;
    first_free = entry(i).next;
    return i;
  }
  const uint32_t i = used_end.load(std::memory_order_relaxed);
  if (i >= kBlock * kBlocks) return kNone;
  Entry*& block = blocks[i / kBlock];
  if (block == nullptr) block = static_cast<Entry*>(fresh_memory(kBlock * sizeof(Entry)));
  return block == nullptr ? kNone : i;
}

void give_entry(uint32_t i) {
  entry(i).next = first_free;
  first_free = i;
}

void note_unshown(uint32_t i) {
  Entry& e = entry(i);
  if (e.waits) return;
  e.waits = true;
  e.next = first_unshown;
  first_unshown = i;
}

void counted(uint32_t file, int by) {
  Entry& e = entry(file);
  e.shown += static_cast<uint32_t>(by);
  if (e.shown == 0) note_unshown(file);
}

// ---- the index ------------------------------------------------------------------------------------------------------

uint32_t place_of(uint64_t dev, uint64_t inode) {
  const uint64_t mixed = (inode ^ dev << 32) * 0x9e3779b97f4a7c15ULL;
  return static_cast<uint32_t>(mixed >> 32) & (index_slots - 1);
}

void fill_place(uint32_t i) {
  const PagedFile& f = entry(i).f;
  uint32_t at = place_of(f.dev, f.inode);
  while (index_table[at] != 0)
    at = (at + 1) & (index_slots - 1);
  index_table[at] = i + 1;
  ++index_filled;
}

// An index with room for `more` files beside those that are used. False: there is no memory for it.
bool build_index(uint32_t more) {
  uint32_t live = more;
  const uint32_t n = used_end.load(std::memory_order_relaxed);
  for (uint32_t i = 0; i < n; ++i)
    live += entry(i).valid.load(std::memory_order_relaxed);
  uint32_t slots = 1024;
  while (slots < live * 4)
    slots *= 2;
  auto* table = static_cast<uint32_t*>(fresh_memory(slots * sizeof(uint32_t)));
  if (table == nullptr) return false;
  if (index_table != nullptr) sys::munmap(index_table, index_slots * sizeof(uint32_t));
  index_table = table;
  index_slots = slots;
  index_filled = 0;
  for (uint32_t i = 0; i < n; ++i)
    if (entry(i).valid.load(std::memory_order_relaxed)) fill_place(i);
  return true;
}

bool index_has_room() {
  return index_table != nullptr && index_filled * 2 < index_slots;
}

}  // namespace

constinit RangeTable PagedFiles::ranges{counted};

int PagedFiles::find(uint64_t dev, uint64_t inode) {
  const uint32_t n = used_end.load(std::memory_order_acquire);
  for (uint32_t i = 0; i < n && inode != 0; ++i) {
    const Entry& e = entry(i);
    if (e.valid.load(std::memory_order_acquire) && e.f.inode == inode && e.f.dev == dev) return static_cast<int>(i);
  }
  return -1;
}

bool PagedFiles::any() {
  for (uint32_t i = 0; i < used_end.load(std::memory_order_acquire); ++i)
    if (entry(i).valid.load(std::memory_order_acquire)) return true;
  return false;
}

int PagedFiles::known(uint64_t dev, uint64_t inode) {
  if (index_table == nullptr || inode == 0) return -1;
  for (uint32_t at = place_of(dev, inode); index_table[at] != 0; at = (at + 1) & (index_slots - 1)) {
    const Entry& e = entry(index_table[at] - 1);
    if (e.valid.load(std::memory_order_relaxed) && e.f.inode == inode && e.f.dev == dev)
      return static_cast<int>(index_table[at] - 1);
  }
  return -1;
}

const PagedFile& PagedFiles::get(uint32_t index) {
  return entry(index).f;
}
bool PagedFiles::is_used(uint32_t index) {
  return entry(index).valid.load(std::memory_order_relaxed);
}

int PagedFiles::intern(const PagedFile& f) {
  if (const int i = known(f.dev, f.inode); i >= 0) {
    unmap_map(f);
    Entry& e = entry(static_cast<uint32_t>(i));
    e.f.wait_ms = f.wait_ms;
    e.f.hasty = f.hasty;
    return i;
  }
  if (!index_has_room() && !build_index(1)) return -1;
  const uint32_t i = take_entry();
  if (i == kNone) return -1;
  Entry& e = entry(i);
  e.f = f;
  e.shown = 0;
  e.waits = false;
  e.valid.store(true, std::memory_order_release);
  if (i >= used_end.load(std::memory_order_relaxed)) used_end.store(i + 1, std::memory_order_release);
  fill_place(i);
  note_unshown(i);
  return static_cast<int>(i);
}

void PagedFiles::drop_unused(void (*dropped)(uint32_t index)) {
  while (first_unshown != kNone) {
    const uint32_t i = first_unshown;
    Entry& e = entry(i);
    first_unshown = e.next;
    e.waits = false;
    if (!e.valid.load(std::memory_order_relaxed) || e.shown > 0) continue;
    dropped(i);
    e.valid.store(false, std::memory_order_release);
    unmap_map(e.f);
    give_entry(i);
  }
}

void PagedFiles::start() {
  ranges.clear();
  first_free = first_unshown = kNone;
  for (uint32_t i = 0; i < used_end.load(std::memory_order_relaxed); ++i) {
    Entry& e = entry(i);
    e.shown = 0;
    e.waits = false;
    if (e.valid.load(std::memory_order_relaxed))
      note_unshown(i);
    else
      give_entry(i);
  }
  build_index(1);
}

}  // namespace larder
