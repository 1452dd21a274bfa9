#include "cached/store/checksum/part_size.h"

#include <algorithm>

namespace larder {

uint64_t upload_part_bytes(uint64_t object_size) {
  constexpr uint64_t kMiB = 1 << 20;
  const uint64_t least = (object_size + kMaxUploadParts - 1) / kMaxUploadParts;
  return std::max(kUploadPartBytes, (least + kMiB - 1) / kMiB * kMiB);
}

}  // namespace larder
