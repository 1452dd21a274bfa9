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

// Eight hex digits of a number, the first in the lowest byte: names are made on every open, so without a loop.
inline uint64_t hex_digits(uint32_t number) {
  uint64_t x = number;  // becomes one digit a byte
  x = (x << 16 | x) & 0x0000ffff0000ffffULL;
  x = (x << 8 | x) & 0x00ff00ff00ff00ffULL;
  x = (x << 4 | x) & 0x0f0f0f0f0f0f0f0fULL;
  const uint64_t letters = (x + 0x0606060606060606ULL) >> 4 & 0x0101010101010101ULL;
  return __builtin_bswap64(x + 0x3030303030303030ULL + letters * ('a' - '0' - 10));
}

// 16 lower-case hex digits. `out` holds 17 bytes.
inline void hex16(uint64_t v, char* out) {
  const uint64_t digits[2] = {hex_digits(static_cast<uint32_t>(v >> 32)), hex_digits(static_cast<uint32_t>(v))};
  static_assert(sizeof(digits) == 16);
  __builtin_memcpy(out, digits, sizeof(digits));
  out[16] = 0;
}

// File name of an object in its dataset's folder: 32 lower-case hex digits, hi first. `out` holds 33 bytes.
inline void object_name(ObjectId id, char* out) {
  hex16(id.hi, out);
  hex16(id.lo, out + 16);
}

// st_dev of a dataset: an anonymous device number (major 0), the same for ever, far above the kernel's own small ones.
// Encoded as Linux does: minor bits 0-7 stay, bits 8-19 move up by 12.
inline uint64_t dataset_dev(uint64_t dataset_id) {
  uint64_t minor = 0x80000u | (dataset_id & 0x7ffffu);
  return (minor & 0xff) | ((minor & ~0xffULL) << 12);
}

}  // namespace larder
