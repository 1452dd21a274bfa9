// Names of the cache directory (include/larder/names.h), as strings and read back.
#pragma once
#include <string>
#include <string_view>

#include "cached/base/files.h"
#include "larder/names.h"

namespace larder {

inline std::string oid_name(ObjectId oid) {
  char name[33];
  object_name(oid, name);
  return name;
}

inline bool parse_oid(std::string_view name, ObjectId* oid) {
  return name.size() == 32 && parse_hex(name.substr(0, 16), 16, &oid->hi) && parse_hex(name.substr(16), 16, &oid->lo);
}

// `prefix` and 16 hex digits.
inline bool parse_numbered(std::string_view name, std::string_view prefix, uint64_t* number) {
  return name.starts_with(prefix) && parse_hex(name.substr(prefix.size()), 16, number);
}

}  // namespace larder
