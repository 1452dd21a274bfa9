// Hashes and names that both sides must agree on. xxHash is used as a header (XXH_INLINE_ALL), so neither side links
// it. All functions are async-signal-safe.
#pragma once
#include <cstddef>
#include <cstdint>

#ifndef XXH_INLINE_ALL
#define XXH_INLINE_ALL
#endif
#include <xxhash.h>

namespace larder {

// Inode numbers and path hashes have 63 bits, because programs print and parse them as signed.
inline constexpr uint64_t kInodeMask = 0x7fffffffffffffffULL;

// Hash of a path relative to its dataset ("" is the root, "train/a.jpg" a file; no leading or trailing slash).
// It is also the virtual inode number of a directory.
inline uint64_t path_hash(const char* path, size_t len) {
  return XXH3_64bits(path, len) & kInodeMask;
}

// Name of one version of one object: XXH3-128 of (dataset, path, size, etag). The etag is the store's, without quotes.
struct ObjectId {
  uint64_t lo;
  uint64_t hi;
  bool operator==(const ObjectId& o) const { return lo == o.lo && hi == o.hi; }
  bool operator!=(const ObjectId& o) const { return !(*this == o); }
};

// Virtual inode number of a file, never 0. A replaced object gets a new inode, as after rename(2).
inline uint64_t file_inode(ObjectId id) {
  return (id.lo & kInodeMask) ? id.lo & kInodeMask : 1;
}

// File name of an object in its dataset's folder: 32 lower-case hex digits, hi first. `out` holds 33 bytes.
inline void object_name(ObjectId id, char* out) {
  static const char kHex[] = "0123456789abcdef";
  for (int i = 0; i < 16; ++i)
    out[i] = kHex[(id.hi >> (60 - 4 * i)) & 15];
  for (int i = 0; i < 16; ++i)
    out[16 + i] = kHex[(id.lo >> (60 - 4 * i)) & 15];
  out[32] = 0;
}

// 16 lower-case hex digits. `out` holds 17 bytes.
inline void hex16(uint64_t v, char* out) {
  static const char kHex[] = "0123456789abcdef";
  for (int i = 0; i < 16; ++i)
    out[i] = kHex[(v >> (60 - 4 * i)) & 15];
  out[16] = 0;
}

// st_dev of a dataset: an anonymous device number (major 0), the same for ever, far above the kernel's own small ones.
// Encoded as Linux does: minor bits 0-7 stay, bits 8-19 move up by 12.
inline uint64_t dataset_dev(uint64_t dataset_id) {
  uint64_t minor = 0x80000u | (dataset_id & 0x7ffffu);
  return (minor & 0xff) | ((minor & ~0xffULL) << 12);
}

}  // namespace larder
