#include "preload/resolve/path_scan.h"

namespace larder {
namespace {

// `p` is just behind a slash: is the component there empty, "." or ".."?
inline bool odd_component(const char* p) {
  if (*p == '/' || *p == 0) return true;
  if (*p != '.') return false;
  return p[1] == '/' || p[1] == 0 || (p[1] == '.' && (p[2] == '/' || p[2] == 0));
}

}  // namespace

bool has_odd_component_bytewise(const char* path) {
  for (const char* p = path; *p; ++p) {
    if (*p == '/' && odd_component(p + 1)) return true;
  }
  return false;
}

#if defined(__x86_64__)
// 16 aligned bytes at a time (an aligned load never crosses a page): finds '/' followed by '/', '.' or the end.
bool has_odd_component(const char* path) {
  const char* block = reinterpret_cast<const char*>(reinterpret_cast<uintptr_t>(path) & ~uintptr_t{15});
  unsigned before = static_cast<unsigned>(path - block);
  unsigned valid = 0xffffu << before;
  unsigned carry = 0;  // the byte before this block was a slash
  for (;; block += 16, valid = 0xffff) {
    __m128i v = _mm_load_si128(reinterpret_cast<const __m128i*>(block));
    auto equal = [&](char c) {
      return static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_set1_epi8(c)))) & valid;
    };
    unsigned slash = equal('/'), dot = equal('.'), nul = equal(0);
    unsigned upto = nul ? (nul & -nul) * 2 - 1 : 0xffff;  // including the first NUL
    unsigned hits = ((slash << 1) | carry) & (slash | dot | nul) & upto;
    for (; hits != 0; hits &= hits - 1) {
      if (odd_component(block + __builtin_ctz(hits))) return true;
    }
    if (nul) return false;
    carry = slash >> 15 & 1;
  }
}
#else
bool has_odd_component(const char* path) {
  return has_odd_component_bytewise(path);
}
#endif

}  // namespace larder
