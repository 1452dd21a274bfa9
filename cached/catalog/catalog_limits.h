// What a catalog can name, for what builds one and what checks one.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace larder {

inline constexpr size_t kMaxName = 255;            // NAME_MAX
inline constexpr size_t kMaxPath = 4095;           // PATH_MAX without its NUL
inline constexpr uint32_t kMaxEntries = 1u << 30;  // so that slot_count (up to 2^31) fits its field

// True if it can be one component of a path. A slash or a NUL in it is the caller's to look for.
inline bool good_component(std::string_view name) {
  return !name.empty() && name.size() <= kMaxName && name != "." && name != "..";
}

}  // namespace larder
