#include "cached/store/http/http_headers.h"

namespace larder {

static char lower_case(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

std::string lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    c = lower_case(c);
  return out;
}

void HttpHeaders::add(std::string_view name, std::string_view value) {
  if (fields_.empty()) {
    text_.reserve(768);
    fields_.reserve(16);
  }
  const auto begin = static_cast<uint32_t>(text_.size());
  for (char c : name)
    text_.push_back(lower_case(c));
  const auto colon = static_cast<uint32_t>(text_.size());
  text_.append(value);
  fields_.push_back({begin, colon, static_cast<uint32_t>(text_.size())});
}

void HttpHeaders::clear() {
  text_.clear();
  fields_.clear();
}

std::string_view HttpHeaders::find(std::string_view wanted) const {
  for (size_t i = 0; i < fields_.size(); ++i) {
    if (name(i) == wanted) return value(i);
  }
  return {};
}

}  // namespace larder
