// Text as it comes from outside: headers, settings, keys, messages of stores. Threads: any.
#pragma once
#include <string>
#include <string_view>

namespace larder {

// A view of `text` without the characters of `around` at its ends.
std::string_view trimmed(std::string_view text, std::string_view around = " \t\r\n");

// ASCII letters in lower case, all other bytes as they are.
constexpr char lower_case(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}
std::string lower_case(std::string_view text);

// At most `max` bytes of `text`, control bytes as "\x0a": one line, safe in a log and on a terminal.
inline constexpr size_t kWhole = std::string_view::npos;
std::string printable(std::string_view text, size_t max = 300);

}  // namespace larder
