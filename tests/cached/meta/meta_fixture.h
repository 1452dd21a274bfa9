// Objects and datasets that the metadata tests publish and compare.
#pragma once
#include <gtest/gtest.h>

#include <string>

#include "cached/meta/meta.h"

namespace larder::testing {

inline std::string key_of(uint64_t i) {
  char key[80];
  const unsigned long long number = i, folder = number / 1300 + 1440764;
  snprintf(key, sizeof key, "train/n%08llu/n%08llu_%08llu.JPEG", folder, folder, number);
  return key;
}

inline ObjectInfo object_of(uint64_t i, uint64_t seed = 0) {
  char etag[33];
  snprintf(etag, sizeof etag, "%016llx%016llx", static_cast<unsigned long long>((i + seed) * 0x9e3779b97f4a7c15ULL),
           static_cast<unsigned long long>((i + seed + 1) * 0xc2b2ae3d27d4eb4fULL));
  return {key_of(i), 100'000 + i % 20'000, (1'700'000'000 + static_cast<int64_t>(i / 50)) * 1'000'000'000, etag};
}

inline DatasetDef definition(const std::string& name) {
  return {name, 7, "s3://bucket/" + name + "/", {{"region", "eu-west-1"}}, "ml"};
}

inline Result<VersionInfo> try_publish(Meta& meta, const std::string& name, uint64_t objects, uint64_t seed = 0) {
  auto writer = meta.write_version(name);
  if (!writer.ok()) return writer.error();
  for (uint64_t i = 0; i < objects; ++i)
    if (auto status = (*writer)->add(object_of(i, seed)); !status.ok()) return status.error();
  return (*writer)->commit(3);
}

inline VersionInfo publish(Meta& meta, const std::string& name, uint64_t objects, uint64_t seed = 0) {
  auto info = try_publish(meta, name, objects, seed);
  EXPECT_TRUE(info.ok()) << info.error().message;
  return info.ok() ? *info : VersionInfo{};
}

// Objects of a version, each compared with object_of().
inline Result<uint64_t> count(Meta& meta, const std::string& name, uint64_t version, uint64_t seed = 0) {
  uint64_t i = 0, wrong = 0;
  auto status = meta.load(name, version, [&](ObjectInfo&& object) -> Status {
    const ObjectInfo wanted = object_of(i++, seed);
    wrong += object.key != wanted.key || object.size != wanted.size || object.mtime_ns != wanted.mtime_ns ||
             object.etag != wanted.etag;
    return {};
  });
  EXPECT_EQ(wrong, 0u);
  if (!status.ok()) return status.error();
  return i;
}

inline uint64_t current_version(Meta& meta, const std::string& name) {
  auto now = meta.current(name);
  EXPECT_TRUE(now.ok()) << now.error().message;
  return now.ok() && *now ? (*now)->version : 0;
}

}  // namespace larder::testing
