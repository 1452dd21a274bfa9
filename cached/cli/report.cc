#include "cached/cli/report.h"

#include <fmt/format.h>

#include <cstdio>

namespace larder::cli {

std::string printable(const std::string& text) {
  std::string out;
  for (char c : text) {
    auto u = static_cast<unsigned char>(c);
    if (u < 0x20 || u == 0x7f)
      out += fmt::format("\\x{:02x}", u);
    else
      out += c;
  }
  return out;
}

int fail(const Error& error, int status) {
  fmt::print(stderr, "larder: {}\n", printable(error.message));
  return status;
}

void warn(const std::string& message) {
  fmt::print(stderr, "larder: warning: {}\n", printable(message));
}

}  // namespace larder::cli
