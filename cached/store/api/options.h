// Reads StoreOptions as typed values. Every error names the option, its value and what is allowed. Threads: any.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cached/store/api/store.h"

namespace larder {

// EINVAL: a key that no store knows.
Status check_option_names(const StoreOptions& options);

std::string option(const StoreOptions& options, std::string_view name, std::string_view fallback = {});
Result<int64_t> int_option(const StoreOptions& options, std::string_view name, int64_t fallback, int64_t min,
                           int64_t max);
// Bytes, with a unit or without: "500M", "1GiB", "1000000".
Result<int64_t> size_option(const StoreOptions& options, std::string_view name, int64_t fallback);
// A time in seconds, with a unit or without: "90s", "15m", "2h", "1d", "3600".
Result<int64_t> seconds_option(const StoreOptions& options, std::string_view name, int64_t fallback);
Result<bool> bool_option(const StoreOptions& options, std::string_view name, bool fallback);
// One of `allowed`; the first is the default.
Result<std::string> choice_option(const StoreOptions& options, std::string_view name,
                                  const std::vector<std::string_view>& allowed);

}  // namespace larder
