#include "cached/meta/redis/redis_directory.h"

#include <cstring>

namespace larder {
namespace {

constexpr uint32_t kMagic = 0x3152444c;  // "LDR1"
constexpr size_t kHeaderBytes = 16;
constexpr size_t kRowBytes = 26;  // before the key

template <typename T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}
template <typename T>
T get(const char* p) {
  T value;
  memcpy(&value, p, sizeof value);
  return value;
}

Error broken(const char* what) {
  return make_error(EIO, std::string("damaged directory: ") + what);
}

}  // namespace

ObjectId segment_hash(std::string_view bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.low64, hash.high64};
}

std::string encode_directory(const std::vector<SegmentRow>& rows) {
  std::string body;
  for (const SegmentRow& row : rows) {
    put(body, row.hash.lo);
    put(body, row.hash.hi);
    put(body, row.bytes);
    put(body, row.objects);
    put(body, static_cast<uint16_t>(row.first_key.size()));
    body += row.first_key;
  }
  std::string out;
  put(out, kMagic);
  put(out, static_cast<uint32_t>(rows.size()));
  put(out, XXH3_64bits_withSeed(body.data(), body.size(), rows.size()));
  return out + body;
}

Result<std::vector<SegmentRow>> decode_directory(std::string_view bytes) {
  if (bytes.size() < kHeaderBytes || get<uint32_t>(bytes.data()) != kMagic)
    return broken("not a directory of this version");
  const uint32_t count = get<uint32_t>(bytes.data() + 4);
  const uint64_t checksum = get<uint64_t>(bytes.data() + 8);
  bytes.remove_prefix(kHeaderBytes);
  if (XXH3_64bits_withSeed(bytes.data(), bytes.size(), count) != checksum) return broken("wrong checksum");
  std::vector<SegmentRow> rows;
  while (!bytes.empty()) {
    if (bytes.size() < kRowBytes) return broken("a row ends too soon");
    SegmentRow row{{get<uint64_t>(bytes.data()), get<uint64_t>(bytes.data() + 8)},
                   get<uint32_t>(bytes.data() + 16),
                   get<uint32_t>(bytes.data() + 20),
                   {}};
    const size_t key = get<uint16_t>(bytes.data() + 24);
    bytes.remove_prefix(kRowBytes);
    if (bytes.size() < key) return broken("a row ends too soon");
    row.first_key = bytes.substr(0, key);
    bytes.remove_prefix(key);
    if (!rows.empty() && row.first_key <= rows.back().first_key) return broken("rows do not ascend");
    rows.push_back(std::move(row));
  }
  if (rows.size() != count) return broken("wrong number of rows");
  return rows;
}

}  // namespace larder
