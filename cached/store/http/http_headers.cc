#include "cached/store/http/http_headers.h"

#include "cached/base/text.h"

namespace larder {

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
