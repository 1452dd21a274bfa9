#include "cached/cli/report.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

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

void print_out(std::string_view text) {
  (void)!fwrite(text.data(), 1, text.size(), stdout);
}

void print_err(std::string_view text) {
  (void)!fwrite(text.data(), 1, text.size(), stderr);
}

int output_status(int status) {
  errno = 0;
  if (fflush(stdout) == 0 && !ferror(stdout)) return status;
  if (status != kExitOk || errno == EPIPE) return kExitFailed;  // whoever read it has seen enough
  return fail(make_error(
      EIO, fmt::format("the output could not be written{}{}", errno ? ": " : "", errno ? strerror(errno) : "")));
}

int fail(const Error& error, int status) {
  print_err(fmt::format("larder: {}\n", printable(error.message)));
  return status;
}

void warn(const std::string& message) {
  print_err(fmt::format("larder: warning: {}\n", printable(message)));
}

}  // namespace larder::cli
