// The quick looks at a path's text: is there anything in it that needs more than a comparison with the mounts?
//
// Both exist twice: 16 bytes at a time for x86-64, and byte by byte for every machine. Unit tests hold the one against
// the other, so that the second is tested where only the first runs. No state, no allocation, no errno; any thread.
#pragma once
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace larder {

// The first eight bytes of a path, to be compared in one go; the mask leaves out what a shorter path does not have.
struct Head {
  uint64_t bytes = 0, mask = 0;
  bool matches(uint64_t word) const { return ((word ^ bytes) & mask) == 0; }
};

// True if a path has an empty, "." or ".." component after a slash, or a slash at its end.
bool has_odd_component(const char* path);
bool has_odd_component_bytewise(const char* path);

// True: an absolute path that does not begin as all mounts do, and has no odd component. False where a quick look does
// not decide it: the caller looks closer.
inline bool certainly_plain_bytewise(const Head& head, const char* path) {
  const char* bytes = reinterpret_cast<const char*>(&head.bytes);
  const char* mask = reinterpret_cast<const char*>(&head.mask);
  for (unsigned i = 0; i < sizeof(head.bytes) && mask[i] != 0; ++i)
    if (path[i] != bytes[i]) return !has_odd_component_bytewise(path);
  return false;
}

#if defined(__x86_64__)
// Reads as far as the path's page goes.
inline bool certainly_plain(const Head& head, const char* path) {
  // 17 bytes from `last` on are in the page.
  auto last = reinterpret_cast<const char*>((reinterpret_cast<uintptr_t>(path) | 4095) - 16);
  if (path > last) return false;
  uint64_t word;
  memcpy(&word, path, sizeof(word));
  if (head.matches(word)) return false;
  const __m128i slash = _mm_set1_epi8('/'), one = _mm_set1_epi8(1), zero = _mm_setzero_si128();
  for (const char* p = path; p <= last; p += 16) {
    __m128i here = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    __m128i after = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 1));
    // A slash before another one or before a dot: '.' | 1 is '/'.
    __m128i odd = _mm_and_si128(_mm_cmpeq_epi8(here, slash), _mm_cmpeq_epi8(_mm_or_si128(after, one), slash));
    auto hits = static_cast<unsigned>(_mm_movemask_epi8(odd));
    auto end = static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(here, zero)));
    if (end != 0) {
      const bool ends_in_slash = p[__builtin_ctz(end) - 1] == '/';  // an absolute path has a byte before its end
      return (hits & (end - 1) & ~end) == 0 && !ends_in_slash;
    }
    if (hits != 0) return false;
  }
  return false;
}
#else
inline bool certainly_plain(const Head& head, const char* path) {
  return certainly_plain_bytewise(head, path);
}
#endif

}  // namespace larder
