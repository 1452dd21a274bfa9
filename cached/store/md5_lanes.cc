#include "cached/store/md5_lanes.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <numeric>
#include <utility>

namespace larder {
namespace {

static_assert(std::endian::native == std::endian::little, "MD5 words are little-endian");

constexpr size_t kBlock = 64;

// RFC 1321: floor(2^32 * |sin(i + 1)|), and how far each step rotates.
constexpr uint32_t kSines[64] = {
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501, 0x698098d8,
    0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821, 0xf61e2562, 0xc040b340,
    0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8, 0x21e1cde6, 0xc33707d6, 0xf4d50d87,
    0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a, 0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c,
    0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70, 0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039,
    0xe6db99e5, 0x1fa27cf8, 0xc4ac5665, 0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92,
    0xffeff47d, 0x85845dd1, 0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb,
    0xeb86d391};
constexpr int kTurns[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};

template <int kLanes>
struct Lanes {
  typedef uint32_t Vector __attribute__((vector_size(kLanes * 4)));
  Vector a, b, c, d;
};

// One message: its whole blocks, then one or two of padding.
struct Message {
  const unsigned char* next = nullptr;
  size_t whole = 0;                  // blocks left in the message itself
  size_t padding = 0, padded = 0;    // blocks of the tail: all, used
  unsigned char tail[2 * kBlock] = {};
  size_t index = 0;                  // which message it is

  void begin(std::span<const std::byte> bytes, size_t at) {
    next = reinterpret_cast<const unsigned char*>(bytes.data());
    whole = bytes.size() / kBlock;
    index = at;
    const size_t rest = bytes.size() % kBlock;
    padding = rest < kBlock - 8 ? 1 : 2;
    padded = 0;
    memset(tail, 0, sizeof tail);
    if (rest > 0) memcpy(tail, next + whole * kBlock, rest);
    tail[rest] = 0x80;
    const uint64_t bits = uint64_t{bytes.size()} * 8;
    memcpy(tail + padding * kBlock - 8, &bits, 8);
  }
  size_t run() const { return whole > 0 ? whole : padding - padded; }  // blocks that lie in a row
  const unsigned char* place() const { return whole > 0 ? next : tail + padded * kBlock; }
  void skip(size_t blocks) {
    if (whole > 0) {
      whole -= blocks;
      next += blocks * kBlock;
    } else {
      padded += blocks;
    }
  }
  bool over() const { return whole == 0 && padded == padding; }
};

// One step of a transposition: of the squares of kStep columns, those off the diagonal change places.
template <typename Vector, int kStep, size_t... kColumn>
[[gnu::always_inline]] inline void swap_squares(Vector& x, Vector& y, std::index_sequence<kColumn...>) {
  constexpr size_t kWidth = sizeof...(kColumn);
  const Vector old = x;
#ifdef __clang__  // which has no __builtin_shuffle; GCC takes no pack as indices
  x = __builtin_shufflevector(old, y, ((kColumn & kStep) == 0 ? kColumn : kWidth + kColumn - kStep)...);
  y = __builtin_shufflevector(old, y, ((kColumn & kStep) == 0 ? kColumn + kStep : kWidth + kColumn)...);
#else
  const Vector upper = {uint32_t((kColumn & kStep) == 0 ? kColumn : kWidth + kColumn - kStep)...};
  const Vector lower = {uint32_t((kColumn & kStep) == 0 ? kColumn + kStep : kWidth + kColumn)...};
  x = __builtin_shuffle(old, y, upper);
  y = __builtin_shuffle(old, y, lower);
#endif
}

template <typename Vector, int kWidth, int kStep>
[[gnu::always_inline]] inline void transpose(Vector* rows) {
#pragma GCC unroll 16
  for (int i = 0; i < kWidth; ++i) {
    if ((i & kStep) == 0) swap_squares<Vector, kStep>(rows[i], rows[i + kStep], std::make_index_sequence<kWidth>());
  }
  if constexpr (kStep > 1) transpose<Vector, kWidth, kStep / 2>(rows);
}

// Word i of every lane's block in m[i].
template <int kLanes>
[[gnu::always_inline]] inline void load_words(typename Lanes<kLanes>::Vector* m, const unsigned char* const* at, size_t offset) {
  using Vector = typename Lanes<kLanes>::Vector;
#pragma GCC unroll 4
  for (int part = 0; part < 16 / kLanes; ++part) {
#pragma GCC unroll 16
    for (int lane = 0; lane < kLanes; ++lane)
      memcpy(&m[part * kLanes + lane], at[lane] + offset + static_cast<size_t>(part) * sizeof(Vector), sizeof(Vector));
    transpose<Vector, kLanes, kLanes / 2>(m + part * kLanes);
  }
}

// `blocks` of every lane. always_inline: it takes the instruction set of the function it is part of.
template <int kLanes>
[[gnu::always_inline]] inline void compress(Lanes<kLanes>& state, const unsigned char* const* at, size_t blocks) {
  using Vector = typename Lanes<kLanes>::Vector;
  for (size_t block = 0; block < blocks; ++block) {
    Vector m[16];
    load_words<kLanes>(m, at, block * kBlock);
    Vector a = state.a, b = state.b, c = state.c, d = state.d;
#pragma GCC unroll 64
    for (int i = 0; i < 64; ++i) {
      Vector f;
      int g;
      if (i < 16) {
        f = d ^ (b & (c ^ d));
        g = i;
      } else if (i < 32) {
        f = c ^ (d & (b ^ c));
        g = (5 * i + 1) % 16;
      } else if (i < 48) {
        f = b ^ c ^ d;
        g = (3 * i + 5) % 16;
      } else {
        f = c ^ (b | ~d);
        g = (7 * i) % 16;
      }
      const int turn = kTurns[i / 16][i % 4];
      const Vector sum = a + f + m[g] + kSines[i];
      a = d;
      d = c;
      c = b;
      b += (sum << turn) | (sum >> (32 - turn));
    }
    state.a += a;
    state.b += b;
    state.c += c;
    state.d += d;
  }
}

// Lanes that have nothing to do hash this.
alignas(64) const unsigned char kIdle[kBlock] = {};

template <int kLanes>
[[gnu::always_inline]] inline void hash_all(std::span<const std::span<const std::byte>> messages, Md5* out) {
  // The longest first: the lanes then end together.
  std::vector<size_t> order(messages.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t x, size_t y) { return messages[x].size() > messages[y].size(); });
  Lanes<kLanes> state{};
  Message lanes[kLanes];
  bool used[kLanes] = {};
  size_t begun = 0, open = 0;
  for (;;) {
    for (int lane = 0; lane < kLanes; ++lane) {
      if (used[lane] || begun == order.size()) continue;
      lanes[lane].begin(messages[order[begun]], order[begun]);
      state.a[lane] = 0x67452301;
      state.b[lane] = 0xefcdab89;
      state.c[lane] = 0x98badcfe;
      state.d[lane] = 0x10325476;
      used[lane] = true;
      ++begun;
      ++open;
    }
    if (open == 0) return;
    const unsigned char* at[kLanes];
    size_t blocks = SIZE_MAX;
    for (int lane = 0; lane < kLanes; ++lane) {
      at[lane] = used[lane] ? lanes[lane].place() : kIdle;
      if (used[lane]) blocks = std::min(blocks, lanes[lane].run());
    }
    if (open < kLanes) blocks = std::min<size_t>(blocks, 1);  // kIdle is one block
    compress<kLanes>(state, at, blocks);
    for (int lane = 0; lane < kLanes; ++lane) {
      if (!used[lane]) continue;
      lanes[lane].skip(blocks);
      if (!lanes[lane].over()) continue;
      const uint32_t words[4] = {state.a[lane], state.b[lane], state.c[lane], state.d[lane]};
      memcpy(out[lanes[lane].index].data(), words, sizeof words);
      used[lane] = false;
      --open;
    }
  }
}

#if defined(__x86_64__)
[[gnu::target("avx512f,avx512vl,avx512bw")]] void hash_avx512(std::span<const std::span<const std::byte>> messages, Md5* out) {
  hash_all<16>(messages, out);
}
[[gnu::target("avx2")]] void hash_avx2(std::span<const std::span<const std::byte>> messages, Md5* out) {
  hash_all<8>(messages, out);
}
bool has_avx512() {
  static const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
  return has;
}
bool has_avx2() {
  static const bool has = __builtin_cpu_supports("avx2");
  return has;
}
#else
bool has_avx512() { return false; }
bool has_avx2() { return false; }
void hash_avx512(std::span<const std::span<const std::byte>>, Md5*) {}
void hash_avx2(std::span<const std::span<const std::byte>>, Md5*) {}
#endif
void hash_baseline(std::span<const std::span<const std::byte>> messages, Md5* out) { hash_all<4>(messages, out); }

Md5 md5_one(std::span<const std::byte> message) {
  thread_local Md5Stream stream;
  stream.reset();
  stream.update(message);
  return stream.finish();
}

}  // namespace

size_t md5_lanes() { return has_avx512() ? 16 : has_avx2() ? 8 : 4; }

std::vector<Md5> md5_many(std::span<const std::span<const std::byte>> messages) {
  std::vector<Md5> out(messages.size());
  if (messages.size() <= 2) {  // the lanes cost as much as two, filled or not
    for (size_t i = 0; i < messages.size(); ++i) out[i] = md5_one(messages[i]);
  } else if (has_avx512()) {
    hash_avx512(messages, out.data());
  } else if (has_avx2()) {
    hash_avx2(messages, out.data());
  } else {
    hash_baseline(messages, out.data());
  }
  return out;
}

}  // namespace larder
