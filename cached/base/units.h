// Sizes, durations and counts as people read them.
#pragma once
#include <cstdint>
#include <string>

namespace larder {

std::string format_bytes(double bytes);       // "0 B", "107.4 KiB", "1.2 GiB"
std::string format_count(uint64_t n);         // "1,281,167"
std::string format_duration(double seconds);  // "0:07", "12:03", "1:02:03", "3 d 04:05"

}  // namespace larder
