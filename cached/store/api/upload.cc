#include "cached/store/upload.h"

#include <algorithm>

namespace larder {

Status StoreWriter::read_back(const NewObject& object, const std::string&, uint64_t, std::span<std::byte>) {
  return make_error(ENOTSUP, object.key + ": an unfinished upload cannot be read");
}

Status StoreWriter::copy(const NewObject& object, const StoredObject&) { return make_error(ENOTSUP, object.key + ": this store does not copy"); }

Result<PartInfo> StoreWriter::copy_part(const NewObject& object, const std::string&, int, const StoredObject&) {
  return make_error(ENOTSUP, object.key + ": this store does not copy");
}

uint64_t upload_part_bytes(uint64_t object_size) {
  constexpr uint64_t kMiB = 1 << 20;
  const uint64_t least = (object_size + kMaxUploadParts - 1) / kMaxUploadParts;
  return std::max(kUploadPartBytes, (least + kMiB - 1) / kMiB * kMiB);
}

int part_count(uint64_t object_size, uint64_t part_bytes) {
  return static_cast<int>(std::max<uint64_t>(1, (object_size + part_bytes - 1) / part_bytes));
}

uint64_t part_offset(const NewObject& object, int number) { return static_cast<uint64_t>(number - 1) * object.part_bytes; }

uint64_t part_size(const NewObject& object, int number) {
  return std::min(object.part_bytes, object.size - part_offset(object, number));
}

}  // namespace larder
