#include "cached/store/checksum/crc.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <random>
#include <string_view>
#include <vector>

namespace larder {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::vector<std::byte> random_bytes(size_t size) {
  std::mt19937 random(static_cast<unsigned>(size));
  std::vector<std::byte> out(size);
  for (auto& byte : out)
    byte = static_cast<std::byte>(random());
  return out;
}

// The catalogue of parametrised CRC algorithms (reveng): "check".
TEST(Crc, CheckValues) {
  EXPECT_EQ(crc_update(CrcKind::kCrc32, 0, bytes_of("123456789")), 0xcbf43926u);
  EXPECT_EQ(crc_update(CrcKind::kCrc32c, 0, bytes_of("123456789")), 0xe3069283u);
  EXPECT_EQ(crc_update(CrcKind::kCrc64Nvme, 0, bytes_of("123456789")), 0xae8b14860a799888u);
}

// NVM Express' specification gives these for its 64b CRC: 4 KiB of zeros, of ones, of a counter up and down.
TEST(Crc, NvmesOwnVectors) {
  std::vector<std::byte> page(4096, std::byte{0});
  EXPECT_EQ(crc_update(CrcKind::kCrc64Nvme, 0, page), 0x6482d367eb22b64eu);
  std::fill(page.begin(), page.end(), std::byte{0xff});
  EXPECT_EQ(crc_update(CrcKind::kCrc64Nvme, 0, page), 0xc0ddba7302eca3acu);
  for (size_t i = 0; i < page.size(); ++i)
    page[i] = static_cast<std::byte>(i);
  EXPECT_EQ(crc_update(CrcKind::kCrc64Nvme, 0, page), 0x3e729f5f6750449cu);
  for (size_t i = 0; i < page.size(); ++i)
    page[i] = static_cast<std::byte>(255 - i);
  EXPECT_EQ(crc_update(CrcKind::kCrc64Nvme, 0, page), 0x9a2df64b8e9e517eu);
}

TEST(Crc, AllWaysGiveTheSame) {
  const auto all = random_bytes(70'000);
  for (CrcKind kind : {CrcKind::kCrc32, CrcKind::kCrc32c, CrcKind::kCrc64Nvme}) {
    for (size_t size = 0; size < 1200; ++size) {
      const auto data = std::span(all).subspan(size % 17, size);
      const uint64_t before = size * 0x9e37'79b9u & 0xffff'ffffu;
      ASSERT_EQ(crc_update(kind, before, data), crc_update_by_tables(kind, before, data)) << size;
      ASSERT_EQ(crc_update_sse(kind, before, data), crc_update_by_tables(kind, before, data)) << size;
    }
    EXPECT_EQ(crc_update(kind, 0, all), crc_update_by_tables(kind, 0, all));
  }
  EXPECT_EQ(crc_update(CrcKind::kCrc32, 0, all), crc32_z(0, reinterpret_cast<const Bytef*>(all.data()), all.size()));
}

TEST(Crc, PiecesAreOneWhole) {
  const auto all = random_bytes(20'000);
  for (CrcKind kind : {CrcKind::kCrc32, CrcKind::kCrc32c, CrcKind::kCrc64Nvme}) {
    uint64_t crc = 0;
    size_t at = 0;
    for (size_t step = 1; at < all.size(); step = step * 2 + 1) {
      const auto piece = std::span(all).subspan(at, std::min(step, all.size() - at));
      crc = crc_update(kind, crc, piece);
      at += piece.size();
    }
    EXPECT_EQ(crc, crc_update(kind, 0, all));
  }
}

TEST(Crc, OfTwoParts) {
  const auto all = random_bytes(40'000);
  for (CrcKind kind : {CrcKind::kCrc32, CrcKind::kCrc32c, CrcKind::kCrc64Nvme}) {
    const uint64_t whole = crc_update(kind, 0, all);
    for (size_t at : {0, 1, 7, 255, 32'768, 39'999, 40'000}) {
      const auto first = std::span(all).first(at), second = std::span(all).subspan(at);
      EXPECT_EQ(crc_combine(kind, crc_update(kind, 0, first), crc_update(kind, 0, second), second.size()), whole) << at;
    }
  }
  const auto zeros = std::vector<std::byte>(1 << 20);  // and many of them: 64 GiB of zeros, doubled
  uint64_t crc = crc_update(CrcKind::kCrc64Nvme, 0, zeros);
  for (uint64_t bytes = 1 << 20; bytes < uint64_t{1} << 36; bytes *= 2)
    crc = crc_combine(CrcKind::kCrc64Nvme, crc, crc, bytes);
  uint64_t pieces = 0;
  for (int i = 0; i < 64; ++i) {
    uint64_t one = crc_update(CrcKind::kCrc64Nvme, 0, zeros);
    for (uint64_t bytes = 1 << 20; bytes < uint64_t{1} << 30; bytes *= 2)
      one = crc_combine(CrcKind::kCrc64Nvme, one, one, bytes);
    pieces = crc_combine(CrcKind::kCrc64Nvme, pieces, one, uint64_t{1} << 30);
  }
  EXPECT_EQ(crc, pieces);
}

}  // namespace
}  // namespace larder
