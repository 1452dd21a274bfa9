#include "cached/store/api/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace larder {
namespace {

constexpr std::string_view kKnown[] = {"endpoint",
                                       "region",
                                       "addressing",
                                       "access_key",
                                       "secret_key",
                                       "session_token",
                                       "anonymous",
                                       "ca_file",
                                       "retries",
                                       "max_connections",
                                       "connect_timeout_ms",
                                       "stall_timeout_ms",
                                       "verify",
                                       "list_order",
                                       "requester_pays",
                                       "credentials_file",
                                       "profile",
                                       "symlinks",
                                       "exclude",
                                       "unreadable",
                                       "max_transfer_speed",
                                       "max_bandwidth",
                                       "max_requests_per_second",
                                       "hedge_after_ms",
                                       "parallel_lists",
                                       "refresh_interval",
                                       "list_version",
                                       "max_copy"};

std::string joined(const auto& words) {
  return fmt::format("{}", fmt::join(std::begin(words), std::end(words), ", "));
}

}  // namespace

Status check_option_names(const StoreOptions& options) {
  for (auto& [name, value] : options) {
    if (std::find(std::begin(kKnown), std::end(kKnown), name) == std::end(kKnown)) {
      return make_error(EINVAL, fmt::format("unknown store option '{}'; known are {}", name, joined(kKnown)));
    }
  }
  return {};
}

std::string option(const StoreOptions& options, std::string_view name, std::string_view fallback) {
  auto it = options.find(std::string(name));
  return it == options.end() ? std::string(fallback) : it->second;
}

Result<int64_t> int_option(const StoreOptions& options, std::string_view name, int64_t fallback, int64_t min,
                           int64_t max) {
  const std::string text = option(options, name);
  if (text.empty()) return fallback;
  int64_t value = 0;
  auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || end != text.data() + text.size() || value < min || value > max) {
    return make_error(EINVAL,
                      fmt::format("store option {} is '{}': it must be a number from {} to {}", name, text, min, max));
  }
  return value;
}

Result<int64_t> size_option(const StoreOptions& options, std::string_view name, int64_t fallback) {
  const std::string text = option(options, name);
  if (text.empty()) return fallback;
  double number = 0;
  auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  while (unit.starts_with(' '))
    unit.remove_prefix(1);
  constexpr std::string_view kLetters = "KMGT";
  const size_t power = unit.empty() ? 0 : kLetters.find(unit[0]) + 1;
  const bool known =
      unit.empty() || (power > 0 && (unit.substr(1) == "iB" || unit.substr(1) == "B" || unit.size() == 1));
  if (known && unit.size() == 2) number *= std::pow(1000, power);
  if (known && unit.size() != 2) number *= std::pow(1024, power);
  if (failure != std::errc() || !known || !(number >= 1 && number <= 1e15)) {
    return make_error(
        EINVAL,
        fmt::format("store option {} is '{}': it must be bytes (1000000) or have a unit (500M, 1GiB)", name, text));
  }
  return static_cast<int64_t>(number);
}

Result<int64_t> seconds_option(const StoreOptions& options, std::string_view name, int64_t fallback) {
  const std::string text = option(options, name);
  if (text.empty()) return fallback;
  int64_t value = 0;
  auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  const int64_t seconds = unit.empty() || unit == "s" ? 1
                          : unit == "m"               ? 60
                          : unit == "h"               ? 3600
                          : unit == "d"               ? 86400
                                                      : 0;
  if (failure != std::errc() || seconds == 0 || value < 1 || value > 10'000'000) {
    return make_error(EINVAL, fmt::format("store option {} is '{}': it must be a time (90s, 15m, 2h, 1d)", name, text));
  }
  return value * seconds;
}

Result<bool> bool_option(const StoreOptions& options, std::string_view name, bool fallback) {
  const std::string text = option(options, name);
  if (text.empty()) return fallback;
  if (text == "true") return true;
  if (text == "false") return false;
  return make_error(EINVAL, fmt::format("store option {} is '{}': it must be true or false", name, text));
}

Result<std::string> choice_option(const StoreOptions& options, std::string_view name,
                                  const std::vector<std::string_view>& allowed) {
  const std::string text = option(options, name, allowed.front());
  if (std::find(allowed.begin(), allowed.end(), text) != allowed.end()) return text;
  return make_error(EINVAL, fmt::format("store option {} is '{}': it must be one of {}", name, text, joined(allowed)));
}

}  // namespace larder
