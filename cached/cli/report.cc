#include "cached/cli/report.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "cached/base/text.h"

namespace larder::cli {

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
  print_err(fmt::format("larder: {}\n", printable(error.message, kWhole)));
  return status;
}

void warn(const std::string& message) {
  print_err(fmt::format("larder: warning: {}\n", printable(message, kWhole)));
}

}  // namespace larder::cli
