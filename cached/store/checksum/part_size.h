// The size of an upload's parts. The ETag of an object in parts depends on it, so checks of ETags need it too.
#pragma once
#include <cstdint>

namespace larder {

// Bytes of a part, unless the object needs larger ones. (8 MiB as in mountpoint-s3: larger parts gain nothing.)
inline constexpr uint64_t kUploadPartBytes = 8 << 20;
// The most parts that S3 and BOS take for one object.
inline constexpr int kMaxUploadParts = 10'000;

// Bytes of each part but the last: kUploadPartBytes, or as many whole MiB as kMaxUploadParts parts need.
uint64_t upload_part_bytes(uint64_t object_size);

}  // namespace larder
