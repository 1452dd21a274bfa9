#include "larder/names.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <random>
#include <string>

namespace larder {
namespace {

std::string hex(uint64_t number) {
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(number));
  return text;
}

TEST(Names, HexDigitsAreThoseOfPrintf) {
  std::mt19937_64 random(1);
  char text[17];
  for (int i = 0; i < 100'000; ++i) {
    const uint64_t number = random() >> (random() % 64);
    hex16(number, text);
    ASSERT_EQ(text, hex(number));
  }
  for (uint64_t number : {uint64_t{0}, ~uint64_t{0}, uint64_t{0x0123456789abcdef}, uint64_t{0xfedcba9876543210}}) {
    hex16(number, text);
    EXPECT_EQ(text, hex(number));
  }
}

// What docs/shared_memory.md draws: a cache directory that another build of larderd made is read by these names.
TEST(Names, AreSpelledAsTheyAlwaysWere) {
  const uint64_t id = 0x0a1b2c3d4e5f6789, number = 42;
  const ObjectId oid = {0x1111111111111111, 0xabcdef0123456789};
  const std::string folder = "0a1b2c3d4e5f6789", object = "abcdef01234567891111111111111111";
  EXPECT_EQ(inode_table_name(number).c_str(), "inodes." + hex(42));
  EXPECT_EQ(catalog_name(number).c_str(), "catalog." + hex(42));
  EXPECT_EQ(residency_name(number).c_str(), "residency." + hex(42));
  EXPECT_EQ(chunk_map_name(number).c_str(), hex(42) + ".map");
  EXPECT_EQ(chunk_data_name(number).c_str(), hex(42));
  EXPECT_EQ(mirror_path(0, number).c_str(), "ns/m/" + hex(42));
  EXPECT_EQ(mirror_path(id, number).c_str(), folder + "/m/" + hex(42));
  EXPECT_EQ(catalog_path(0, number).c_str(), "ns/catalog." + hex(42));
  EXPECT_EQ(residency_path(id, number).c_str(), folder + "/residency." + hex(42));
  EXPECT_EQ(object_path(id, oid).c_str(), folder + "/" + object);
  EXPECT_EQ(handle_path(id, oid).c_str(), folder + "/l/" + object);
  EXPECT_EQ(chunk_data_path(id, number).c_str(), "chunks/" + folder + "/" + hex(42));
  EXPECT_EQ(whole_chunks_path(id, oid).c_str(), "chunks/" + folder + "/" + object);
  EXPECT_EQ(chunk_map_path(id, number).c_str(), folder + "/l/" + hex(42) + ".map");
  EXPECT_EQ(std::string_view(whole_chunks_path(id, oid)).size(), 56u);
}

}  // namespace
}  // namespace larder
