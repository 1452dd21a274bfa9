#include "cached/store/checksum/md5_lanes.h"

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
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
    0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
    0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
    0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
    0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
    0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
    0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391};
constexpr int kTurns[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};

// One message: its whole blocks, then one or two of padding.
struct Message {
  const unsigned char* next = nullptr;
  size_t whole = 0;                // blocks left in the message itself
  size_t padding = 0, padded = 0;  // blocks of the tail: all, used
  unsigned char tail[2 * kBlock] = {};
  size_t index = 0;  // which message it is

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

// Chains side by side: kSets vectors of kWidth lanes. The steps of one chain wait for each other a third of the time,
// which those of another set fill.
template <int kWidth, int kSets>
struct Lanes {
  static constexpr int kCount = kWidth * kSets;
  typedef uint32_t Vector __attribute__((vector_size(kWidth * 4)));
  alignas(64) uint32_t words[4][kCount];  // A, B, C, D of each lane
  Message messages[kCount];
  int open = 0;  // lanes in use: the first ones

  void add(std::span<const std::byte> bytes, size_t index) {
    constexpr uint32_t kStart[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
    messages[open].begin(bytes, index);
    for (int i = 0; i < 4; ++i)
      words[i][open] = kStart[i];
    ++open;
  }
  // The last one takes its place.
  void remove(int lane) {
    --open;
    messages[lane] = messages[open];
    for (auto& word : words)
      word[lane] = word[open];
  }
  void sum(int lane, Md5& out) const {
    for (size_t i = 0; i < 4; ++i)
      memcpy(out.data() + 4 * i, &words[i][lane], 4);
  }
};

// Word i of every lane's block in m[i].
template <int kWidth, typename Vector>
[[gnu::always_inline]] inline void load_words(Vector* m, const unsigned char* const* at, size_t offset) {
#pragma GCC unroll 4
  for (int part = 0; part < 16 / kWidth; ++part) {
#pragma GCC unroll 16
    for (int lane = 0; lane < kWidth; ++lane)
      memcpy(&m[part * kWidth + lane], at[lane] + offset + static_cast<size_t>(part) * sizeof(Vector), sizeof(Vector));
    transpose<Vector, kWidth, kWidth / 2>(m + part * kWidth);
  }
}

// Step i of a chain. What depends on the step before is added last: the rest of the sum is there by then.
template <typename Vector>
[[gnu::always_inline]] inline void step(int i, Vector* v, const Vector* m, const uint32_t* sines) {
  const Vector b = v[1], c = v[2], d = v[3];
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
  const Vector sum = (v[0] + (m[g] + sines[i])) + f;
  v[0] = d;
  v[1] = b + ((sum << turn) | (sum >> (32 - turn)));
  v[2] = b;
  v[3] = c;
}

// `blocks` of the lanes of kSets sets. always_inline: it takes the instruction set of the function it is part of.
template <int kSets, int kWidth, int kAll>
[[gnu::always_inline]] inline void compress(Lanes<kWidth, kAll>& lanes, const unsigned char* const* at, size_t blocks) {
  using Vector = typename Lanes<kWidth, kAll>::Vector;
  const uint32_t* sines = kSines;
  asm(""
      : "+r"(sines));  // or the compiler makes each a constant in a register, by two instructions, instead of adding
                       // from memory
  Vector state[kSets][4];
  for (int s = 0; s < kSets; ++s) {
    for (int i = 0; i < 4; ++i)
      memcpy(&state[s][i], &lanes.words[i][s * kWidth], sizeof(Vector));
  }
  for (size_t block = 0; block < blocks; ++block) {
    Vector m[kSets][16], v[kSets][4];
#pragma GCC unroll 2
    for (int s = 0; s < kSets; ++s) {
      load_words<kWidth>(m[s], at + s * kWidth, block * kBlock);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i)
        v[s][i] = state[s][i];
    }
#pragma GCC unroll 64
    for (int i = 0; i < 64; ++i) {
#pragma GCC unroll 2
      for (int s = 0; s < kSets; ++s)
        step(i, v[s], m[s], sines);
    }
#pragma GCC unroll 2
    for (int s = 0; s < kSets; ++s) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i)
        state[s][i] += v[s][i];
    }
  }
  for (int s = 0; s < kSets; ++s) {
    for (int i = 0; i < 4; ++i)
      memcpy(&lanes.words[i][s * kWidth], &state[s][i], sizeof(Vector));
  }
}

// As many blocks as lie in a row in all messages that are open.
template <int kWidth>
[[gnu::always_inline]] inline void advance(Lanes<kWidth, 2>& lanes) {
  const unsigned char* at[2 * kWidth];
  size_t blocks = SIZE_MAX;
  for (int lane = 0; lane < lanes.open; ++lane) {
    at[lane] = lanes.messages[lane].place();
    blocks = std::min(blocks, lanes.messages[lane].run());
  }
  std::fill(at + lanes.open, at + 2 * kWidth, at[0]);  // lanes that have nothing to do hash the first one's
  if (lanes.open > kWidth)
    compress<2>(lanes, at, blocks);
  else
    compress<1>(lanes, at, blocks);
  for (int lane = 0; lane < lanes.open; ++lane)
    lanes.messages[lane].skip(blocks);
}

template <int kWidth>
[[gnu::always_inline]] inline void hash_all(std::span<const std::span<const std::byte>> messages, Md5* out) {
  // The longest first: the lanes then end together.
  std::vector<size_t> order(messages.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t x, size_t y) { return messages[x].size() > messages[y].size(); });
  Lanes<kWidth, 2> lanes;
  for (auto next = order.begin(); next != order.end() || lanes.open > 0;) {
    for (; next != order.end() && lanes.open < lanes.kCount; ++next)
      lanes.add(messages[*next], *next);
    advance(lanes);
    for (int lane = lanes.open - 1; lane >= 0; --lane) {
      if (!lanes.messages[lane].over()) continue;
      lanes.sum(lane, out[lanes.messages[lane].index]);
      lanes.remove(lane);
    }
  }
}

#if defined(__x86_64__)
[[gnu::target("avx512f,avx512vl,avx512bw")]] void hash_avx512(std::span<const std::span<const std::byte>> messages,
                                                              Md5* out) {
  hash_all<16>(messages, out);
}
[[gnu::target("avx2")]] void hash_avx2(std::span<const std::span<const std::byte>> messages, Md5* out) {
  hash_all<8>(messages, out);
}
bool has_avx512() {
  static const bool has =
      __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
  return has;
}
bool has_avx2() {
  static const bool has = __builtin_cpu_supports("avx2");
  return has;
}
#else
bool has_avx512() {
  return false;
}
bool has_avx2() {
  return false;
}
void hash_avx512(std::span<const std::span<const std::byte>>, Md5*) {}
void hash_avx2(std::span<const std::span<const std::byte>>, Md5*) {}
#endif
void hash_baseline(std::span<const std::span<const std::byte>> messages, Md5* out) {
  hash_all<4>(messages, out);
}

Md5 md5_one(std::span<const std::byte> message) {
  thread_local Md5Stream stream;
  stream.reset();
  stream.update(message);
  return stream.finish();
}

}  // namespace

size_t md5_lanes() {
  return 2 * static_cast<size_t>(md5_widths().back());
}

std::span<const Md5Width> md5_widths() {
  static constexpr Md5Width kAll[] = {Md5Width::kSse2, Md5Width::kAvx2, Md5Width::kAvx512};
  return std::span(kAll).first(has_avx512() ? 3 : has_avx2() ? 2 : 1);
}

std::vector<Md5> md5_many(std::span<const std::span<const std::byte>> messages) {
  if (messages.size() == 1) return {md5_one(messages[0])};
  if (has_avx512() && messages.size() <= 8) return md5_many(messages, Md5Width::kAvx2);  // a little faster for so few
  return md5_many(messages, md5_widths().back());
}

std::vector<Md5> md5_many(std::span<const std::span<const std::byte>> messages, Md5Width width) {
  std::vector<Md5> out(messages.size());
  switch (width) {
    case Md5Width::kAvx512:
      hash_avx512(messages, out.data());
      break;
    case Md5Width::kAvx2:
      hash_avx2(messages, out.data());
      break;
    case Md5Width::kSse2:
      hash_baseline(messages, out.data());
      break;
  }
  return out;
}

}  // namespace larder
