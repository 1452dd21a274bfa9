// Segments and directories of dataset versions, as they come from a Redis that may lie or from a SQLite file on a disk
// that rots, and the catalog that is built from what decodes.
#include "cached/meta/segment.h"

#include <cstring>

#include "cached/catalog/catalog_builder.h"
#include "cached/meta/redis/redis_directory.h"
#include "larder/hash.h"
#include "tests/fuzz/fuzz.h"

using namespace larder;

namespace {

template <typename T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// With a right checksum around them, any bytes reach the decoder's own checks.
std::string as_segment(uint32_t count, std::string_view payload) {
  std::string out = "LSG1";
  put(out, count);
  put(out, static_cast<uint32_t>(payload.size()));
  put(out, uint32_t{0});
  put(out, XXH3_64bits_withSeed(payload.data(), payload.size(), count));
  return out.append(payload);
}

std::string as_directory(uint32_t count, std::string_view rows) {
  std::string out = "LDR1";
  put(out, count);
  put(out, XXH3_64bits_withSeed(rows.data(), rows.size(), count));
  return out.append(rows);
}

bool same(const ObjectInfo& a, const ObjectInfo& b) {
  return a.key == b.key && a.size == b.size && a.mtime_ns == b.mtime_ns && a.etag == b.etag;
}

Status decode_all(std::string_view bytes, std::vector<ObjectInfo>& out) {
  std::string last;
  return decode_segment(bytes, &last, true, [&](const ObjectView& o) { return out.push_back(o), Status(); });
}

// What decodes is what a writer writes: it can be written again and comes back the same, and makes a good catalog.
void decode(std::string_view bytes) {
  std::vector<ObjectInfo> objects, again;
  const Status decoded = decode_all(bytes, objects);
  for (size_t i = 1; i < objects.size(); ++i)
    fuzz_check(objects[i - 1].key < objects[i].key);
  if (!decoded) return fuzz_check(decoded.error().code == EIO);
  SegmentWriter writer;
  CatalogBuilder builder(1);
  for (const ObjectInfo& o : objects)
    fuzz_check(writer.add(o).ok() && builder.add(o).ok());
  fuzz_check(decode_all(writer.finish(), again).ok() &&
             std::equal(objects.begin(), objects.end(), again.begin(), again.end(), same));
  auto image = builder.finish(1, 1);
  fuzz_check(image.ok() && image->header.file_count + builder.skipped().count <= objects.size());
}

void decode_rows(std::string_view bytes) {
  auto rows = decode_directory(bytes);
  if (rows)
    fuzz_check(encode_directory(*rows) == bytes);
  else
    fuzz_check(rows.error().code == EIO);
}

}  // namespace

// The first byte: what the rest is.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  const uint32_t count = data[0] / 4;
  switch (data[0] % 4) {
    case 0:
      decode(rest);
      break;
    case 1:
      decode(as_segment(count, rest));
      break;
    case 2:
      decode_rows(rest);
      break;
    default:
      decode_rows(as_directory(count, rest));
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  const std::string md5(32, 'a');
  const std::vector<ObjectInfo> objects = {{"a", 1, 5, md5},
                                           {"a/b", 300, 1'000'000'005, md5 + "-12"},
                                           {"a/b/c", 0, -7, "odd \"etag\""},
                                           {"a/bc/", 0, 0, ""},
                                           {"b//x", 9, 1, ""},
                                           {std::string("n\0l", 3), 1u << 31, 3'000'000, md5},
                                           {std::string(300, 'x') + "/y", 2, 2, "t"}};
  SegmentWriter writer;
  for (const ObjectInfo& o : objects)
    (void)writer.add(o);
  const std::string segment = writer.finish();
  const std::string rows =
      encode_directory({{{1, 2}, 600'000, 12'000, ""}, {{3, 4}, 1, 1, "a/b"}, {{5, 6}, 2, 2, "z"}});
  return {std::string(1, 0) + segment, static_cast<char>(4 * objects.size() + 1) + segment.substr(24),
          std::string(1, 2) + rows, static_cast<char>(4 * 3 + 3) + rows.substr(16)};
}
