#include "cached/store/checksum/crc.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace larder {
namespace {

// All three are reflected: the bit of the highest power comes first, in the lowest bit. Of a state of less than 64 bits
// the upper ones are zero. They begin and end inverted.
struct Crc {
  explicit Crc(uint64_t reflected_polynomial, int bits);
  uint64_t power(unsigned n) const;  // x^n modulo the polynomial, as a factor of carry-less multiplication

  const uint64_t polynomial;
  const int width;
  const uint64_t ones;
  std::array<std::array<uint64_t, 256>, 8> tables;  // [k][b]: of byte b with k zero bytes after it
  // What moves 128 bits by so many bits onwards: factors for their lower and upper half.
  struct Step {
    uint64_t low, high;
  };
  Step by128, by512, by2048;

 private:
  Step step(unsigned bits) const { return {power(bits + 63), power(bits - 1)}; }
};

Crc::Crc(uint64_t reflected_polynomial, int bits)
    : polynomial(reflected_polynomial),
      width(bits),
      ones(~uint64_t{0} >> (64 - bits)),
      by128(step(128)),
      by512(step(512)),
      by2048(step(2048)) {
  for (unsigned b = 0; b < 256; ++b) {
    uint64_t state = b;
    for (int i = 0; i < 8; ++i)
      state = (state >> 1) ^ (state & 1 ? polynomial : 0);
    tables[0][b] = state;
  }
  for (size_t k = 1; k < 8; ++k) {
    for (size_t b = 0; b < 256; ++b)
      tables[k][b] = (tables[k - 1][b] >> 8) ^ tables[0][tables[k - 1][b] & 255];
  }
}

uint64_t Crc::power(unsigned n) const {
  uint64_t state = uint64_t{1} << (width - 1);
  for (; n > 0; --n)
    state = (state >> 1) ^ (state & 1 ? polynomial : 0);
  return state << (64 - width);
}

const Crc& crc_of(CrcKind kind) {
  static const Crc crc32(0xedb88320, 32), crc32c(0x82f63b78, 32), crc64nvme(0x9a6c9329ac4bc9b5, 64);
  return kind == CrcKind::kCrc32 ? crc32 : kind == CrcKind::kCrc32c ? crc32c : crc64nvme;
}

uint64_t by_tables(const Crc& crc, uint64_t state, const std::byte* p, size_t n) {
  const auto& t = crc.tables;
  for (; n >= 8; p += 8, n -= 8) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    v ^= state;
    state = t[7][v & 255] ^ t[6][v >> 8 & 255] ^ t[5][v >> 16 & 255] ^ t[4][v >> 24 & 255] ^ t[3][v >> 32 & 255] ^
            t[2][v >> 40 & 255] ^ t[1][v >> 48 & 255] ^ t[0][v >> 56];
  }
  for (; n > 0; ++p, --n)
    state = (state >> 8) ^ t[0][(state ^ static_cast<uint64_t>(*p)) & 255];
  return state;
}

#if defined(__x86_64__)

// 128 bits A = L*x^64 + H stand for a message so far; what follows D bits later is A*x^D, and modulo the polynomial
// that is L*(x^(D+64) mod P) + H*(x^D mod P). A product of two reflected numbers is one power of x too high, so the
// factors are one lower.

[[gnu::target("pclmul,sse4.1")]] inline __m128i folded(__m128i a, __m128i by) {
  return _mm_xor_si128(_mm_clmulepi64_si128(a, by, 0x00), _mm_clmulepi64_si128(a, by, 0x11));
}

[[gnu::target("pclmul,sse4.1")]] __m128i factors(const Crc::Step& s) {
  return _mm_set_epi64x(static_cast<long long>(s.high), static_cast<long long>(s.low));
}

[[gnu::target("pclmul,sse4.1")]] __m128i load(const std::byte* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}

// What is left after `a` took the place of everything before p.
[[gnu::target("pclmul,sse4.1")]] uint64_t finish(const Crc& crc, __m128i a, const std::byte* p, size_t n) {
  const __m128i by = factors(crc.by128);
  for (; n >= 16; p += 16, n -= 16)
    a = _mm_xor_si128(folded(a, by), load(p));
  std::byte last[16];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(last), a);
  return by_tables(crc, by_tables(crc, 0, last, sizeof last), p, n);
}

// At least 64 bytes.
[[gnu::target("pclmul,sse4.1")]] uint64_t by_sse(const Crc& crc, uint64_t state, const std::byte* p, size_t n) {
  __m128i a[4];
  for (int i = 0; i < 4; ++i)
    a[i] = load(p + 16 * i);
  a[0] = _mm_xor_si128(a[0], _mm_set_epi64x(0, static_cast<long long>(state)));
  const __m128i far = factors(crc.by512), by = factors(crc.by128);
  for (p += 64, n -= 64; n >= 64; p += 64, n -= 64) {
    for (int i = 0; i < 4; ++i)
      a[i] = _mm_xor_si128(folded(a[i], far), load(p + 16 * i));
  }
  for (int i = 1; i < 4; ++i)
    a[0] = _mm_xor_si128(folded(a[0], by), a[i]);
  return finish(crc, a[0], p, n);
}

// At least 256 bytes.
[[gnu::target("vpclmulqdq,avx512f,avx512vl,pclmul,sse4.1")]] uint64_t by_avx512(const Crc& crc, uint64_t state,
                                                                                const std::byte* p, size_t n) {
  __m512i a[4];
  for (int i = 0; i < 4; ++i)
    a[i] = _mm512_loadu_si512(p + 64 * i);
  a[0] = _mm512_xor_si512(a[0], _mm512_zextsi128_si512(_mm_set_epi64x(0, static_cast<long long>(state))));
  const auto low_by = static_cast<long long>(crc.by2048.low), high_by = static_cast<long long>(crc.by2048.high);
  const __m512i far = _mm512_set_epi64(high_by, low_by, high_by, low_by, high_by, low_by, high_by, low_by);
  for (p += 256, n -= 256; n >= 256; p += 256, n -= 256) {
    for (int i = 0; i < 4; ++i) {
      const __m512i low = _mm512_clmulepi64_epi128(a[i], far, 0x00), high = _mm512_clmulepi64_epi128(a[i], far, 0x11);
      a[i] = _mm512_ternarylogic_epi64(low, high, _mm512_loadu_si512(p + 64 * i), 0x96);
    }
  }
  __m128i lanes[16];
  for (int i = 0; i < 4; ++i)
    _mm512_storeu_si512(lanes + 4 * i, a[i]);
  const __m128i by = factors(crc.by128);
  __m128i all = lanes[0];
  for (int i = 1; i < 16; ++i)
    all = _mm_xor_si128(folded(all, by), lanes[i]);
  return finish(crc, all, p, n);
}

bool has_sse() {
  static const bool has = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
  return has;
}

bool has_avx512() {
  static const bool has = has_sse() && __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("avx512f") &&
                          __builtin_cpu_supports("avx512vl");
  return has;
}

#else

uint64_t by_sse(const Crc& crc, uint64_t state, const std::byte* p, size_t n) {
  return by_tables(crc, state, p, n);
}
uint64_t by_avx512(const Crc& crc, uint64_t state, const std::byte* p, size_t n) {
  return by_tables(crc, state, p, n);
}
bool has_sse() {
  return false;
}
bool has_avx512() {
  return false;
}

#endif

}  // namespace

int crc_bytes(CrcKind kind) {
  return crc_of(kind).width / 8;
}

uint64_t crc_update(CrcKind kind, uint64_t before, std::span<const std::byte> bytes) {
  const Crc& crc = crc_of(kind);
  if (!has_avx512() || bytes.size() < 256) return crc_update_sse(kind, before, bytes);
  return by_avx512(crc, before ^ crc.ones, bytes.data(), bytes.size()) ^ crc.ones;
}

// Modulo the polynomial; x^0 is the highest bit of a state.
static uint64_t product(const Crc& crc, uint64_t a, uint64_t b) {
  uint64_t out = 0;
  for (uint64_t bit = uint64_t{1} << (crc.width - 1); bit != 0; bit >>= 1) {
    if (a & bit) out ^= b;
    b = (b >> 1) ^ (b & 1 ? crc.polynomial : 0);
  }
  return out;
}

// What `first` leaves behind so many bytes on. Beginning and ending inverted cancel out.
uint64_t crc_combine(CrcKind kind, uint64_t first, uint64_t second, uint64_t second_bytes) {
  const Crc& crc = crc_of(kind);
  uint64_t power = uint64_t{1} << (crc.width - 1 - 8);  // x^8, squared for each bit of the count
  for (; second_bytes > 0; second_bytes >>= 1, power = product(crc, power, power)) {
    if (second_bytes & 1) first = product(crc, first, power);
  }
  return first ^ second;
}

uint64_t crc_update_sse(CrcKind kind, uint64_t before, std::span<const std::byte> bytes) {
  const Crc& crc = crc_of(kind);
  if (!has_sse() || bytes.size() < 64) return crc_update_by_tables(kind, before, bytes);
  return by_sse(crc, before ^ crc.ones, bytes.data(), bytes.size()) ^ crc.ones;
}

uint64_t crc_update_by_tables(CrcKind kind, uint64_t before, std::span<const std::byte> bytes) {
  const Crc& crc = crc_of(kind);
  return by_tables(crc, before ^ crc.ones, bytes.data(), bytes.size()) ^ crc.ones;
}

}  // namespace larder
