#include "cached/cli/units.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

namespace larder::cli {
namespace {

Error bad_size(std::string_view text, std::string_view why) {
  return make_error(EINVAL, fmt::format("size '{}' {}: write a number and a unit, such as 512M or 10G", text, why));
}

std::string_view trim(std::string_view s) {
  while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
  while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
  return s;
}

// Power of two of a unit ("", "k", "KB", "KiB", ...), or -1.
int unit_shift(std::string_view unit) {
  if (unit.empty() || unit == "B" || unit == "b") return 0;
  static constexpr std::string_view kLetters = "kmgtp";
  size_t at = kLetters.find(static_cast<char>(unit[0] | 0x20));
  if (at == std::string_view::npos) return -1;
  std::string_view rest = unit.substr(1);
  if (!rest.empty() && rest != "B" && rest != "b" && rest != "iB" && rest != "ib") return -1;
  return static_cast<int>(10 * (at + 1));
}

}  // namespace

Result<uint64_t> parse_size(std::string_view text) {
  std::string_view s = trim(text);
  double value = 0;
  auto [end, ec] = std::from_chars(s.data(), s.data() + s.size(), value, std::chars_format::fixed);
  if (ec != std::errc() || !std::isfinite(value)) return bad_size(text, "is not a number");
  int shift = unit_shift(trim(s.substr(static_cast<size_t>(end - s.data()))));
  if (shift < 0) return bad_size(text, "has an unknown unit");
  double bytes = std::ldexp(value, shift);
  if (bytes < 1) return bad_size(text, "is less than one byte");
  if (bytes >= 9.2e18) return bad_size(text, "is too large");
  return static_cast<uint64_t>(bytes);
}

std::string format_bytes(double bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  size_t unit = 0;
  while (bytes >= 1023.95 && unit + 1 < std::size(kUnits)) {
    bytes /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, kUnits[unit]);
}

std::string format_count(uint64_t n) {
  std::string digits = std::to_string(n), out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) out.push_back(',');
    out.push_back(digits[i]);
  }
  return out;
}

std::string format_duration(double seconds) {
  auto s = static_cast<uint64_t>(seconds < 0 ? 0 : std::min(seconds, 1e12) + 0.5);
  if (s >= 86400) return fmt::format("{} d {:02}:{:02}", s / 86400, s / 3600 % 24, s / 60 % 60);
  if (s >= 3600) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{}:{:02}", s / 60, s % 60);
}

}  // namespace larder::cli
