// Sizes, durations and counts as people write and read them.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "larder/result.h"

namespace larder::cli {

// "512M", "10GiB", "1.5 g", "4096": bytes. Units are powers of 1024 (K M G T P, with or without "iB" or "B"). EINVAL,
// naming the text, for anything else, for 0, and for more than 2^63 - 1.
Result<uint64_t> parse_size(std::string_view text);

std::string format_bytes(double bytes);       // "0 B", "107.4 KiB", "1.2 GiB"
std::string format_count(uint64_t n);         // "1,281,167"
std::string format_duration(double seconds);  // "0:07", "12:03", "1:02:03", "3 d 04:05"

}  // namespace larder::cli
