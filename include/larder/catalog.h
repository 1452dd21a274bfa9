// The catalog: every directory and file of one dataset version, in one immutable file. Drawing: docs/shared_memory.md.
//
// larderd makes it under another name in the dataset's folder, then renames it to "catalog.<version, 16 hex digits>".
// Programs map it read-only. Nothing in it ever changes; a refresh makes a new file.
//
//   header | entries (48 B each) | slots (8 B each) | names
//
// Invariants (larderd checks 1-5 with valid_catalog() before it publishes a catalog or takes one over):
//  1. Entry 0 is the root directory: empty name, its own parent.
//  2. The children of a directory are contiguous, entries [first_child, first_child + child_count), sorted by name as
//     unsigned bytes; a child's index is greater than its parent's (breadth first), so walks to the root end.
//  3. slot_count is a power of two and at most 7/10 of the slots are used: every probe ends.
//  4. Every name lies inside the names area, is followed by a NUL, has 1..255 bytes, no '/', is not "." or "..".
//  5. An entry's etag (etag_len bytes) follows the NUL of its name.
//
// Size: 48 B an entry + 8 B a slot (11.5 to 23 B an entry) + name + NUL + etag; residency 4 B and touch 1 B elsewhere.
//
// Version history of the format: 1 first.
#pragma once
#include <cstdint>
#include <cstring>

#include "larder/hash.h"

namespace larder {

inline constexpr uint64_t kCatalogMagic = 0x31474f4c54434c4cULL;  // "LLCTLOG1"
inline constexpr uint32_t kCatalogFormat = 1;
inline constexpr uint32_t kNoEntry = 0xffffffffu;

enum class EntryType : uint8_t {
  kDirectory = 1,
  kFile = 2,
  kMount = 3,  // namespace catalog only: a mount point (a directory that the mount covers)
};

struct CatalogHeader {
  uint64_t magic;
  uint32_t format;
  uint32_t header_bytes;  // sizeof(CatalogHeader)
  uint64_t dataset_id;    // 0: the namespace catalog
  uint64_t version;       // grows with every publication of the dataset
  int64_t published_ns;   // CLOCK_REALTIME
  uint32_t entry_count;   // root included
  uint32_t slot_count;    // power of two
  uint64_t entries_off;   // from the start of the file; 8-aligned
  uint64_t slots_off;     // 8-aligned
  uint64_t names_off;
  uint64_t names_bytes;
  uint64_t file_count;
  uint64_t directory_count;
  uint64_t total_bytes;  // sum of the files' sizes
  uint64_t checksum;     // XXH3-64 of all bytes after the header
  uint64_t skipped;      // objects that no path can name (reported by larderd when it listed them)
  uint64_t reserved[3];
};
static_assert(sizeof(CatalogHeader) == 144);

struct CatalogEntry {
  union {
    uint64_t size;      // file: bytes
    uint64_t dir_hash;  // directory: path_hash() of its path = its inode number
  };
  int64_t mtime_ns;  // file: Last-Modified; directory: the newest of its children
  union {
    ObjectId oid;  // file
    struct {
      uint32_t first_child;
      uint32_t child_count;
      uint32_t subdirectory_count;
      uint32_t reserved;
    } dir;
  };
  uint64_t name_off;  // from names_off
  uint32_t parent;
  uint16_t name_len;
  EntryType type;
  uint8_t etag_len;

  bool is_file() const { return type == EntryType::kFile; }
  bool is_dir() const { return type != EntryType::kFile; }
  uint64_t inode() const { return is_file() ? file_inode(oid) : dir_hash; }
};
static_assert(sizeof(CatalogEntry) == 48);

// Slot of the open-addressing hash (linear probing from path_hash & (slot_count - 1)).
struct CatalogSlot {
  uint32_t tag;          // path_hash >> 32
  uint32_t entry_plus1;  // 0: empty
};
static_assert(sizeof(CatalogSlot) == 8);

// A view of a mapped catalog: plain pointers that do not own the mapping. All functions are async-signal-safe and may
// run in any thread.
struct Catalog {
  const CatalogHeader* header = nullptr;
  const CatalogEntry* entries = nullptr;
  const CatalogSlot* slots = nullptr;
  const char* names = nullptr;
  uint32_t entry_count = 0;  // copies: a lookup stays inside the mapping whatever the mapping says
  uint32_t slot_mask = 0;
  uint64_t names_bytes = 0;

  // Points into `base` (bytes long). False if the sizes in the header do not fit the mapping. Does not read the
  // entries.
  bool attach(const void* base, uint64_t bytes) {
    if (bytes < sizeof(CatalogHeader)) return false;
    auto* h = static_cast<const CatalogHeader*>(base);
    if (h->magic != kCatalogMagic || h->format != kCatalogFormat || h->header_bytes != sizeof(CatalogHeader))
      return false;
    if (h->entry_count == 0 || h->slot_count == 0 || (h->slot_count & (h->slot_count - 1)) != 0) return false;
    auto inside = [&](uint64_t off, uint64_t len) {
      return off >= sizeof(CatalogHeader) && off <= bytes && len <= bytes - off;
    };
    if ((h->entries_off | h->slots_off) & 7) return false;
    if (!inside(h->entries_off, uint64_t{h->entry_count} * sizeof(CatalogEntry))) return false;
    if (!inside(h->slots_off, uint64_t{h->slot_count} * sizeof(CatalogSlot))) return false;
    if (!inside(h->names_off, h->names_bytes)) return false;
    auto* b = static_cast<const char*>(base);
    header = h;
    entries = reinterpret_cast<const CatalogEntry*>(b + h->entries_off);
    slots = reinterpret_cast<const CatalogSlot*>(b + h->slots_off);
    names = b + h->names_off;
    entry_count = h->entry_count;
    slot_mask = h->slot_count - 1;
    names_bytes = h->names_bytes;
    return true;
  }

  const char* name(const CatalogEntry& e) const { return names + e.name_off; }
  const char* etag(const CatalogEntry& e) const { return names + e.name_off + e.name_len + 1; }

  // True if entry `i` has exactly this path. Compares components from the end, upwards through the parents.
  bool path_is(uint32_t i, const char* path, size_t len) const {
    while (i != 0) {
      const CatalogEntry& e = entries[i];
      if (e.name_len > len || e.name_off > names_bytes || e.name_len > names_bytes - e.name_off) return false;
      if (memcmp(path + len - e.name_len, name(e), e.name_len) != 0) return false;
      len -= e.name_len;
      if (e.parent >= i) return false;  // invariant 2; also ends every walk
      i = e.parent;
      if (i == 0) return len == 0;
      if (len == 0 || path[len - 1] != '/') return false;
      --len;
    }
    return len == 0;
  }

  // Entry of a relative path, or kNoEntry.
  uint32_t find(const char* path, size_t len) const { return find_hashed(path_hash(path, len), path, len); }
  uint32_t find_hashed(uint64_t hash, const char* path, size_t len) const {
    uint32_t tag = static_cast<uint32_t>(hash >> 32);
    for (uint32_t s = static_cast<uint32_t>(hash) & slot_mask, n = 0; n <= slot_mask; s = (s + 1) & slot_mask, ++n) {
      CatalogSlot slot = slots[s];
      if (slot.entry_plus1 == 0) return kNoEntry;
      if (slot.tag != tag || slot.entry_plus1 > entry_count) continue;
      if (path_is(slot.entry_plus1 - 1, path, len)) return slot.entry_plus1 - 1;
    }
    return kNoEntry;
  }

  // Directory with this inode number (= path hash), or kNoEntry. The builder refuses two directories with one hash.
  uint32_t find_directory(uint64_t inode) const {
    uint32_t tag = static_cast<uint32_t>(inode >> 32);
    for (uint32_t s = static_cast<uint32_t>(inode) & slot_mask, n = 0; n <= slot_mask; s = (s + 1) & slot_mask, ++n) {
      CatalogSlot slot = slots[s];
      if (slot.entry_plus1 == 0) return kNoEntry;
      if (slot.tag != tag || slot.entry_plus1 > entry_count) continue;
      const CatalogEntry& e = entries[slot.entry_plus1 - 1];
      if (e.is_dir() && e.dir_hash == inode) return slot.entry_plus1 - 1;
    }
    return kNoEntry;
  }

  // Path of an entry into buf (no NUL): returns its length, or -1 if it needs more than cap bytes.
  long path_of(uint32_t i, char* buf, size_t cap) const {
    size_t len = 0;
    for (uint32_t k = i; k != 0; k = entries[k].parent) {
      if (entries[k].parent >= k) return -1;
      len += entries[k].name_len + (len ? 1 : 0);
    }
    if (len > cap) return -1;
    size_t at = len;
    for (uint32_t k = i; k != 0; k = entries[k].parent) {
      const CatalogEntry& e = entries[k];
      if (at != len) buf[--at] = '/';
      at -= e.name_len;
      memcpy(buf + at, name(e), e.name_len);
    }
    return static_cast<long>(len);
  }
};

}  // namespace larder
