// A segment: up to 16,384 objects of one dataset version, sorted by key, front-coded. Shared by all metadata engines.
//
//   u32 magic "LSG1" | u32 count | u32 payload bytes | u32 0 | u64 XXH3-64 of the payload, seed = count | payload
//
// All integers are little-endian. An object in the payload:
//
//   varint shared    length of the prefix that its key shares with the key before it (0 for the first)
//   varint suffix    length of the rest, then the rest
//   u8     form      bits 0-1: etag form; bits 2-3: unit of the mtime; others 0
//   varint size
//   varint mtime     zigzag of (mtime - mtime of the object before, 0 for the first) / unit; absent for unit 0
//   etag             form 0: none
//                    form 1: 16 bytes (32 lower-case hex digits)
//                    form 2: 16 bytes, varint N ("hex-N", S3 multipart)
//                    form 3: varint length, bytes
//
// 16,384 objects are about 650 KB: no store or network stalls on one, and a change rewrites little (docs/metadata.md).
// A writer belongs to one thread; decoding is free of state. Version history of the format: LSG1 first.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "cached/store/api/store.h"
#include "larder/result.h"

namespace larder {

inline constexpr size_t kSegmentObjects = 16'384;
inline constexpr size_t kMaxKeyBytes = 65'535;  // S3 allows 1,024; paths of file:// may be longer
inline constexpr size_t kMaxSegmentBytes = 1u << 30;

class SegmentWriter {
 public:
  // EINVAL: the key does not sort after the one before, or is too long.
  Status add(const ObjectInfo& object);
  bool full() const { return count_ >= kSegmentObjects || payload_.size() > kMaxSegmentBytes / 4; }
  size_t count() const { return count_; }
  size_t bytes() const { return payload_.size(); }
  // The encoded segment; the writer is empty again, but remembers the last key.
  std::string finish();

 private:
  std::string payload_;
  std::string last_key_;
  bool any_ = false;  // last_key_ is a key
  uint32_t count_ = 0;
  int64_t last_mtime_ = 0;
};

// Calls `object` for each object in order. `last_key` is the last key of the segment before (in; ignored if `first`)
// and of this one (out). The bytes are untrusted: EIO with a reason for anything that a writer would not have written.
Status decode_segment(std::string_view bytes, std::string* last_key, bool first,
                      const std::function<Status(const ObjectView&)>& object);

}  // namespace larder
