// Output of the command line: results on stdout, everything else on stderr, one line an error.
//
// Nothing here fails or throws. What cannot be written is lost, and a command does its work all the same: its exit
// status says whether that was done. The status of a command whose work is to show something says whether all of it was
// written (output_status()).
#pragma once
#include <fmt/format.h>

#include <string>
#include <string_view>

#include "larder/result.h"

namespace larder::cli {

// Exit statuses (README.md). `larder run` ends with the command's status; its own failures are as for env(1).
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitRunFailed = 125;
inline constexpr int kExitNotExecutable = 126;
inline constexpr int kExitNotFound = 127;

void print_out(std::string_view text);
void print_err(std::string_view text);

// A result.
template <typename... T>
void say(fmt::format_string<T...> format, T&&... args) {
  print_out(fmt::format(format, std::forward<T>(args)...));
}

// For a command whose work is its output: `status`, or kExitFailed if stdout took not all of it.
int output_status(int status);

// "larder: <message>" on stderr, as one line whatever the message holds; returns `status`.
int fail(const Error& error, int status = kExitFailed);

void warn(const std::string& message);

}  // namespace larder::cli
