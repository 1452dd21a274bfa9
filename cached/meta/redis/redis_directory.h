// The directory of one dataset version in Redis: which segments (segment.h) it has, in order. One STRING value.
//
//   u32 magic "LDR1" | u32 rows | u64 XXH3-64 of the rows, seed = count | rows
//   row: u64 hash lo | u64 hash hi (XXH3-128 of the segment's bytes) | u32 bytes | u32 objects |
//        u16 length of the first key | first key
//
// The hash names the segment, so versions share segments that did not change. 100 M objects: about 8,000 rows, 0.6 MB.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "larder/hash.h"
#include "larder/result.h"

namespace larder {

struct SegmentRow {
  ObjectId hash{};
  uint32_t bytes = 0;
  uint32_t objects = 0;
  std::string first_key;
};

ObjectId segment_hash(std::string_view bytes);
std::string encode_directory(const std::vector<SegmentRow>& rows);
// Untrusted bytes: EIO with a reason.
Result<std::vector<SegmentRow>> decode_directory(std::string_view bytes);

}  // namespace larder
