// The names of Larder's keys in Redis. docs/metadata.md describes their content.
//
// All keys of one dataset have its name as hash tag: they are in one slot of a Cluster, so that scripts see them
// together, and different datasets spread. P is the tenant's prefix.
//
//   P larder:schema          the schema's version; a newer one is refused
//   P larder:datasets        SET of the names
//   P larder:changes         channel: the name of a dataset that has a new version
//   P ds:{NAME}:def          HASH schema id source options group last (the last version number given out)
//   P ds:{NAME}:cur          the current version; SET makes a version current
//   P ds:{NAME}:versions     ZSET of the versions that can be loaded
//   P ds:{NAME}:VER:meta     HASH created_ns objects bytes skipped segments
//   P ds:{NAME}:VER:dir      redis_directory.h
//   P ds:{NAME}:seg:HASH     a segment (segment.h), shared by the versions that name it
//   P ds:{NAME}:lock         token of the publisher; expires
//   P ds:{NAME}:nodes        HASH node -> "version files bytes expires_ms"
#pragma once
#include <fmt/format.h>

#include <string>
#include <string_view>

#include "larder/hash.h"

namespace larder {

class RedisKeys {
 public:
  explicit RedisKeys(std::string prefix) : prefix_(std::move(prefix)) {}
  std::string schema() const { return prefix_ + "larder:schema"; }
  std::string datasets() const { return prefix_ + "larder:datasets"; }
  std::string changes() const { return prefix_ + "larder:changes"; }
  std::string of(std::string_view name, std::string_view what) const {
    return fmt::format("{}ds:{{{}}}:{}", prefix_, name, what);
  }
  std::string of(std::string_view name, uint64_t version, std::string_view what) const {
    return of(name, fmt::format("{}:{}", version, what));
  }
  std::string segment(std::string_view name, ObjectId hash) const {
    char hex[33];
    object_name(hash, hex);
    return of(name, fmt::format("seg:{}", hex));
  }

 private:
  const std::string prefix_;
};

}  // namespace larder
