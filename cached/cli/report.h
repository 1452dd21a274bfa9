// Output of the command line: results on stdout, everything else on stderr, one line an error.
#pragma once
#include <string>

#include "larder/result.h"

namespace larder::cli {

// Exit statuses (README.md). `larder run` ends with the command's status; its own failures are as for env(1).
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitRunFailed = 125;
inline constexpr int kExitNotExecutable = 126;
inline constexpr int kExitNotFound = 127;

// "larder: <message>" on stderr, as one line whatever the message holds; returns `status`.
int fail(const Error& error, int status = kExitFailed);

void warn(const std::string& message);

// Text with visible control characters and line breaks, since it may come from a bucket.
std::string printable(const std::string& text);

}  // namespace larder::cli
