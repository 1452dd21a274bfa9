// Into what parts an upload is cut. The ETag of an object in parts depends on it, so checks of ETags need it too.
#pragma once
#include <cstdint>

namespace larder {

// Bytes of a part unless the object needs larger ones (mountpoint-s3 uses 8 MiB: the largest that still gains).
inline constexpr uint64_t kUploadPartBytes = 8 << 20;
// The most parts that S3 and BOS take for one object.
inline constexpr int kMaxUploadParts = 10'000;

// Bytes of each part but the last: kUploadPartBytes, or as many whole MiB as kMaxUploadParts parts need.
uint64_t upload_part_bytes(uint64_t object_size);

}  // namespace larder
