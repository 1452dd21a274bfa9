// The headers of an HTTP reply, kept in one text: a reply has a dozen, and two strings for each would cost as much as
// the request's signature. Threads: one at a time.
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
  // Adds a header. Names may have any case and are kept in lower case. At most 4 GiB in all.
  void add(std::string_view name, std::string_view value);
  void clear();
  // The value of the first header with this lower-case name; empty if there is none.
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

}  // namespace larder
