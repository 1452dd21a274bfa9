// Values that come from Redis, parsed strictly: anything but what Larder writes is no value. Threads: any.
#pragma once
#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>

#include "cached/meta/redis/redis_connection.h"

namespace larder {

template <typename T = uint64_t>
std::optional<T> whole_number(std::string_view text) {
  T out{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return {};
  return out;
}

// A field of a flat list of names and values (HGETALL); null if it is missing or not text.
inline const std::string* field(const RedisReply& flat, std::string_view name) {
  for (size_t i = 0; i + 1 < flat.items.size(); i += 2)
    if (flat.items[i].is_text() && flat.items[i].text == name)
      return flat.items[i + 1].is_text() ? &flat.items[i + 1].text : nullptr;
  return nullptr;
}

template <typename T = uint64_t>
std::optional<T> number_field(const RedisReply& flat, std::string_view name) {
  const std::string* text = field(flat, name);
  return text ? whole_number<T>(*text) : std::nullopt;
}

// EVAL with its keys and arguments.
class RedisEval {
 public:
  explicit RedisEval(const char* script) : script_(script) {}
  RedisEval& key(std::string name) {
    keys_.push_back(std::move(name));
    return *this;
  }
  RedisEval& arg(std::string value) {
    arguments_.push_back(std::move(value));
    return *this;
  }
  RedisEval& arg(int64_t value) { return arg(std::to_string(value)); }
  RedisCommand command() const {
    RedisCommand out("EVAL");
    out.add(script_).add(static_cast<int64_t>(keys_.size()));
    for (const std::string& k : keys_)
      out.key(k);
    for (const std::string& a : arguments_)
      out.add(a);
    return out;
  }

 private:
  const char* script_;
  std::vector<std::string> keys_, arguments_;
};

}  // namespace larder
