#include "cached/cache/body_hash.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "larder/hash.h"

namespace larder {
namespace {

// A checksum that another build of larderd wrote into "sums" must match. Otherwise every cached file would count as
// corrupt after an upgrade or on another processor.
TEST(BodyHashTest, IsXxh3HoweverTheBytesArrive) {
  std::vector<std::byte> bytes(300'001);
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>(i * 2654435761u >> 13);
  for (size_t size : {0, 1, 16, 240, 241, 1024, 4096, 110'000, 300'001}) {
    const auto all = std::span(bytes).first(size);
    const uint64_t want = XXH3_64bits(all.data(), all.size());
    for (size_t piece : {7, 64, 1000, 16384, 300'001}) {
      BodyHash hash;
      for (size_t at = 0; at < size; at += piece)
        hash.update(all.subspan(at, std::min(piece, size - at)));
      ASSERT_EQ(hash.value(), want) << size << " in pieces of " << piece;
      hash.reset();
      hash.update(all);
      ASSERT_EQ(hash.value(), want);
    }
  }
  EXPECT_EQ(BodyHash().value(), 0x2d06800538d394c2u);  // of nothing, as the XXH3 specification has it
}

}  // namespace
}  // namespace larder
