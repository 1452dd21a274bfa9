#include "cached/store/api/upload.h"

#include <algorithm>

namespace larder {

Status StoreWriter::read_back(const NewObject& object, const std::string&, uint64_t, std::span<std::byte>) {
  return make_error(ENOTSUP, object.key + ": an unfinished upload cannot be read");
}

Status StoreWriter::copy(const NewObject& object, const StoredObject&) {
  return make_error(ENOTSUP, object.key + ": this store does not copy");
}

Result<PartInfo> StoreWriter::copy_part(const NewObject& object, const std::string&, int, const StoredObject&) {
  return make_error(ENOTSUP, object.key + ": this store does not copy");
}

int part_count(uint64_t object_size, uint64_t part_bytes) {
  return static_cast<int>(std::max<uint64_t>(1, (object_size + part_bytes - 1) / part_bytes));
}

uint64_t part_offset(const NewObject& object, int number) {
  return static_cast<uint64_t>(number - 1) * object.part_bytes;
}

uint64_t part_size(const NewObject& object, int number) {
  return std::min(object.part_bytes, object.size - part_offset(object, number));
}

}  // namespace larder
