// Names of cache files: 32 hex digits of an object id.
#pragma once
#include <string>
#include <string_view>

#include "cached/base/files.h"
#include "larder/hash.h"

namespace larder {

inline std::string oid_name(ObjectId oid) {
  char name[33];
  object_name(oid, name);
  return name;
}

inline bool parse_oid(std::string_view name, ObjectId* oid) {
  return name.size() == 32 && parse_hex(name.substr(0, 16), 16, &oid->hi) && parse_hex(name.substr(16), 16, &oid->lo);
}

}  // namespace larder
