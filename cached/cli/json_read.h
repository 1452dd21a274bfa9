// Reads members of a reply. A missing member, or one of another type, is 0, "" or []: the daemon may be of another
// release.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

namespace larder::cli {

inline uint64_t number(const nlohmann::json& object, const char* key) {
  auto it = object.is_object() ? object.find(key) : object.end();
  if (it == object.end() || !it->is_number()) return 0;
  double value = it->get<double>();
  return it->is_number_unsigned() ? it->get<uint64_t>() : value > 0 ? static_cast<uint64_t>(value) : 0;
}

inline std::string text(const nlohmann::json& object, const char* key) {
  auto it = object.is_object() ? object.find(key) : object.end();
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

inline const nlohmann::json& list(const nlohmann::json& object, const char* key) {
  static const nlohmann::json kEmpty = nlohmann::json::array();
  auto it = object.is_object() ? object.find(key) : object.end();
  return it != object.end() && it->is_array() ? *it : kEmpty;
}

inline const nlohmann::json& member(const nlohmann::json& object, const char* key) {
  static const nlohmann::json kEmpty = nlohmann::json::object();
  auto it = object.is_object() ? object.find(key) : object.end();
  return it != object.end() && it->is_object() ? *it : kEmpty;
}

inline bool truth(const nlohmann::json& object, const char* key) {
  auto it = object.is_object() ? object.find(key) : object.end();
  return it != object.end() && it->is_boolean() && it->get<bool>();
}

}  // namespace larder::cli
