#include "cached/config/config.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>

#include "cached/base/files.h"
#include "cached/base/group.h"
#include "cached/base/units.h"

namespace larder {

static constexpr uint64_t kGiB = uint64_t{1} << 30;
static constexpr uint64_t kMinCache = uint64_t{1} << 20;  // room for the tables and a few files
static constexpr size_t kMaxConfigFile = 1 << 20;

static Error bad(const std::string& key, std::string_view value, std::string_view remedy) {
  return make_error(EINVAL, fmt::format("{} = \"{}\": {}", key, shown(value), remedy));
}

// ---- values -------------------------------------------------------------------------------------

static bool unit_factor(std::string unit, double* factor) {
  static const std::map<std::string, double> kUnits = {{"", 1},
                                                       {"B", 1},
                                                       {"K", 1024.0},
                                                       {"KIB", 1024.0},
                                                       {"KB", 1e3},
                                                       {"M", 1048576.0},
                                                       {"MIB", 1048576.0},
                                                       {"MB", 1e6},
                                                       {"G", 1073741824.0},
                                                       {"GIB", 1073741824.0},
                                                       {"GB", 1e9},
                                                       {"T", 1099511627776.0},
                                                       {"TIB", 1099511627776.0},
                                                       {"TB", 1e12}};
  for (char& c : unit)
    c = static_cast<char>(toupper(static_cast<unsigned char>(c)));
  auto it = kUnits.find(unit);
  if (it == kUnits.end()) return false;
  *factor = it->second;
  return true;
}

Result<SizeSpec> parse_size(std::string_view text) {
  Error error = bad("size", text, "use bytes (1000000), a unit (8GiB, 500M) or a share (50%)");
  std::string s(text);
  size_t digits = s.find_first_not_of("0123456789.");
  if (digits == 0 || s.empty()) return error;
  char* end = nullptr;
  double number = std::strtod(s.c_str(), &end);
  if (end != s.c_str() + std::min(digits, s.size()) || !std::isfinite(number) || number <= 0) return error;
  std::string unit = digits == s.npos ? "" : s.substr(digits);
  unit.erase(0, unit.find_first_not_of(' ') == unit.npos ? unit.size() : unit.find_first_not_of(' '));
  if (unit == "%") {
    if (number > 100) return error;
    return SizeSpec{0, number};
  }
  double factor = 1;
  if (!unit_factor(unit, &factor) || number * factor > 1e18 || number * factor < 1) return error;
  return SizeSpec{static_cast<uint64_t>(number * factor), 0};
}

Result<Fill> parse_fill(std::string_view text) {
  if (text == "eager") return Fill::kEager;
  if (text == "siblings") return Fill::kSiblings;
  if (text == "off") return Fill::kOff;
  return bad("fill", text, "use eager, siblings or off");
}

Result<Policy> parse_policy(std::string_view text) {
  if (text == "keep") return Policy::kKeep;
  if (text == "sieve") return Policy::kSieve;
  return bad("policy", text, "use keep or sieve");
}

Result<HomeChoice> parse_home(std::string_view text) {
  if (text == "auto") return HomeChoice::kAuto;
  if (text == "own") return HomeChoice::kOwn;
  if (text == "folder") return HomeChoice::kFolder;
  return bad("cache_home", text, "use auto, own or folder");
}

Result<SizeSpec> parse_quota(std::string_view text) {
  if (text == "none") return SizeSpec{};
  if (Result<SizeSpec> size = parse_size(text)) return size;
  return bad("quota", text, "use none, bytes (1000000), a unit (8GiB, 500M) or a share of cache_size (50%)");
}

Result<Fallback> parse_fallback(std::string_view text) {
  if (text == "wait") return Fallback::kWait;
  if (text == "origin") return Fallback::kOrigin;
  if (text == "error") return Fallback::kError;
  return bad("fallback", text, "use wait, origin or error");
}

Result<std::string> normal_mount_path(std::string_view path) {
  auto refuse = [&](std::string_view why) {
    return make_error(EINVAL, fmt::format("mount path \"{}\" {}", shown(path), why));
  };
  if (path.empty() || path[0] != '/') return refuse("is not absolute; give one like /data/name");
  std::string out;
  for (size_t at = 0; at < path.size();) {
    size_t end = std::min(path.find('/', at), path.size());
    std::string_view part = path.substr(at, end - at);
    at = end + 1;
    if (part.empty() || part == ".") continue;
    if (part == "..") return refuse("has \"..\"; give it without");
    if (part.size() > 255) return refuse("has a component above 255 bytes");
    for (unsigned char c : part)
      if (c < 0x20 || c == 0x7f) return refuse("has a control byte");
    (out += '/') += part;
  }
  if (out.empty()) return refuse("is the root folder; give one like /data/name");
  if (out.size() > kMaxMountPath) return refuse(fmt::format("has more than {} bytes", kMaxMountPath));
  return out;
}

// ---- defaults -----------------------------------------------------------------------------------

static std::string env(const char* name) {
  const char* v = std::getenv(name);
  return v ? v : "";
}

static std::string user_state_dir() {
  if (std::string xdg = env("XDG_STATE_HOME"); !xdg.empty() && xdg[0] == '/') return xdg + "/larder";
  if (std::string home = env("HOME"); !home.empty() && home[0] == '/') return home + "/.local/state/larder";
  return fmt::format("/tmp/larder-{}/state", ::geteuid());
}

static std::string user_socket() {
  if (std::string xdg = env("XDG_RUNTIME_DIR"); !xdg.empty() && xdg[0] == '/') return xdg + "/larder/larder.sock";
  return fmt::format("/tmp/larder-{}/larder.sock", ::geteuid());
}

static void fill_defaults(Config& c) {
  if (c.socket.empty()) c.socket = c.is_private ? user_socket() : "/run/larder/larder.sock";
  c.cache_dir_is_named = !c.cache_dir.empty();
  if (c.cache_dir.empty())
    c.cache_dir = c.is_private ? fmt::format("/dev/shm/larder-{}", ::geteuid()) : "/dev/shm/larder";
  if (c.state_dir.empty()) c.state_dir = c.is_private ? user_state_dir() : "/var/lib/larder";
}

static Status read_config_file(const ConfigFlags& flags, Config& config) {
  std::string file = flags.config_file.value_or(kDefaultConfigFile);
  if (!flags.config_file && (config.is_private || ::access(file.c_str(), F_OK) != 0)) return {};
  Result<std::string> text = read_file(AT_FDCWD, file, kMaxConfigFile);
  if (!text) return make_error(text.error().code, text.error().message + "; name another with --config");
  if (Status s = apply_toml(*text, file, config); !s) return s;
  struct stat st;
  bool secret = text->find("secret_key") != text->npos || text->find("session_token") != text->npos;
  if (secret && ::stat(file.c_str(), &st) == 0 && (st.st_mode & 077) != 0)
    config.warnings.push_back(file + " holds secrets and others may read it; make it 0600");
  return {};
}

static Status apply_flags(const ConfigFlags& flags, Config& c) {
  if (flags.socket) c.socket = *flags.socket;
  if (flags.cache_dir) c.cache_dir = *flags.cache_dir;
  if (flags.state_dir) c.state_dir = *flags.state_dir;
  if (flags.meta) c.meta = *flags.meta;
  if (flags.log_file) c.log_file = *flags.log_file;
  if (flags.log_level) c.log_level = *flags.log_level;
  if (flags.linger_s) c.linger_s = *flags.linger_s;
  if (!flags.cache_size) return {};
  Result<SizeSpec> size = parse_size(*flags.cache_size);
  if (!size) return bad("--cache-size", *flags.cache_size, "use bytes (1000000), a unit (8GiB, 500M) or a share (50%)");
  c.cache_size = *size;
  return {};
}

static Status check_paths(const Config& c) {
  for (auto [key, value] : {std::pair{"socket", &c.socket}, {"cache_dir", &c.cache_dir}, {"state_dir", &c.state_dir}}) {
    if (value->empty() || (*value)[0] != '/') return bad(key, *value, "give an absolute path");
    if (value->size() > 3000) return bad(key, *value, "give a shorter path");
  }
  if (!c.cache_dir_readonly.empty() && (c.cache_dir_readonly[0] != '/' || !c.cache_dir_is_named))
    return bad("cache_dir_readonly", c.cache_dir_readonly, "give an absolute path, and cache_dir as well");
  if (c.cache_home == HomeChoice::kOwn && c.cache_dir_is_named)
    return bad("cache_home", "own", fmt::format("leave it out, or leave out cache_dir ({})", shown(c.cache_dir)));
  if (c.socket.size() > 107)
    return bad("socket", c.socket, "a socket path has at most 107 bytes; give a shorter one");  // sun_path
  return {};
}

Result<Config> load_config(const ConfigFlags& flags) {
  Config config;
  config.is_private = flags.is_private || (!flags.config_file && ::geteuid() != 0);
  if (config.is_private) config.linger_s = 600;
  if (Status s = read_config_file(flags, config); !s) return s.error();
  if (Status s = apply_flags(flags, config); !s) return s.error();
  fill_defaults(config);
  if (Status s = check_paths(config); !s) return s.error();
  if (!config.admin_group.empty()) {
    if (Result<gid_t> group = group_id(config.admin_group); !group)
      return make_error(EINVAL, "admin_group: " + group.error().message);
  }
  return config;
}

StoreOptions options_for(const Config& config, const std::string& source, const StoreOptions& own) {
  StoreOptions all = config.store;
  for (const auto& [prefix, options] : config.stores) {  // sorted: a longer prefix comes after a shorter one
    if (source.compare(0, prefix.size(), prefix) != 0) continue;
    bool whole = source.size() == prefix.size() || source[prefix.size()] == '/' || prefix.back() == '/';
    for (const auto& [key, value] : options)
      if (whole) all[key] = value;
  }
  for (const auto& [key, value] : own)
    all[key] = value;
  return all;
}

// ---- sizes --------------------------------------------------------------------------------------

Result<CacheLimits> plan_limits(const Config& config, const Capacity& there) {
  const uint64_t total = std::min(there.total, there.limit);
  CacheLimits limits;
  limits.reserve = config.reserve ? config.reserve->of(total) : std::min(total / 20, kGiB);
  limits.cache_size =
      config.cache_size ? config.cache_size->of(total) : std::min(total / 2, (there.free + there.used) / 5 * 4);
  if (limits.cache_size > there.limit)
    return make_error(EINVAL,
                      fmt::format("cache_size {} is larger than the memory of larderd's control group, {} ({}); "
                                  "give a smaller --cache-size or raise that limit",
                                  format_bytes(limits.cache_size), format_bytes(there.limit), there.limited_by));
  if (limits.cache_size > total)
    return make_error(EINVAL, fmt::format("cache_size {} is larger than {} ({}); give a smaller --cache-size or a "
                                          "larger file system",
                                          format_bytes(limits.cache_size), there.of, format_bytes(total)));
  if (limits.reserve >= total)
    return make_error(EINVAL, fmt::format("reserve {} leaves nothing of {} ({}); give a smaller one",
                                          format_bytes(limits.reserve), there.of, format_bytes(total)));
  if (limits.cache_size < kMinCache)
    return make_error(ENOSPC, fmt::format("cache_size {} is below 1 MiB ({} free of {}); give a larger --cache-size or "
                                          "free some space",
                                          limits.cache_size, format_bytes(there.free), there.of));
  limits.staging = config.staging.of(limits.cache_size);
  if (limits.staging > limits.cache_size / 4)
    return bad("staging", format_bytes(limits.staging), "at most a quarter of cache_size");
  return limits;
}

}  // namespace larder
