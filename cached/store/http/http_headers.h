// The headers of an HTTP reply in one text: a reply has a dozen, and two strings for each cost as much as its
// signature.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace larder {

// Names and values of a request's headers or query, in order.
using NameValues = std::vector<std::pair<std::string, std::string>>;

class HttpHeaders {
 public:
  // Any case; kept in lower case. At most 4 GiB in all.
  void add(std::string_view name, std::string_view value);
  void clear();
  // The first with this name, which is in lower case; empty: none.
  std::string_view find(std::string_view name) const;
  size_t size() const { return fields_.size(); }
  std::string_view name(size_t i) const {
    return std::string_view(text_).substr(fields_[i].begin, fields_[i].colon - fields_[i].begin);
  }
  std::string_view value(size_t i) const {
    return std::string_view(text_).substr(fields_[i].colon, fields_[i].end - fields_[i].colon);
  }

 private:
  struct Field {
    uint32_t begin, colon, end;  // name and value follow each other in the text
  };
  std::string text_;
  std::vector<Field> fields_;
};

std::string lower_case(std::string_view text);  // ASCII

}  // namespace larder
