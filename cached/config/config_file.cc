// larder.toml, read with toml11.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <toml.hpp>
#include <vector>

#include "cached/base/files.h"
#include "cached/config/config.h"
#include "cached/store/api/options.h"

namespace larder {
namespace {

using Value = toml::basic_value<toml::discard_comments, std::map, std::vector>;
using Table = Value::table_type;  // sorted by key

// toml11 follows nested values and dotted keys by recursion and has no limit of its own.
constexpr int kMaxDepth = 64;

Error bad(const std::string& key, std::string_view value, std::string_view remedy) {
  return make_error(EINVAL, fmt::format("{} = \"{}\": {}", key, shown(value), remedy));
}

// Where the text that starts with the quote at `at` ends: at its last quote, or where no text can go on.
size_t end_of_text(std::string_view toml, size_t at) {
  const char quote = toml[at];
  const bool long_text = toml.substr(at, 3) == std::string(3, quote);
  const std::string_view closing = toml.substr(at, long_text ? 3 : 1);
  for (size_t i = at + closing.size(); i < toml.size(); ++i) {
    if (toml.substr(i, closing.size()) == closing) return i + closing.size() - 1;
    if (toml[i] == '\n' && !long_text) return i;
    if (toml[i] == '\\' && quote == '"') ++i;
  }
  return toml.size();
}

bool nests_too_deeply(std::string_view toml) {
  int depth = 0, dots = 0;
  for (size_t i = 0; i < toml.size(); ++i) {
    const char c = toml[i];
    if (c == '"' || c == '\'') i = end_of_text(toml, i);
    if (c == '#') i = std::min(toml.find('\n', i), toml.size());
    if (c == '[' || c == '{') ++depth;
    if ((c == ']' || c == '}') && depth > 0) --depth;
    dots = c == '.' ? dots + 1 : c == '\n' || c == '=' || c == ',' ? 0 : dots;
    if (depth > kMaxDepth || dots > kMaxDepth) return true;
  }
  return false;
}

// toml11 3.7 reports where a text is not UTF-8 by an iterator before the file's first byte.
bool is_utf8(std::string_view text) {
  try {
    (void)nlohmann::json(std::string(text)).dump();
    return true;
  } catch (const nlohmann::json::type_error&) {
    return false;
  }
}

// A value as it would be written.
std::string describe(const Value& value) {
  return value.is_string() ? value.as_string().str : toml::format(value);
}

// Reads one table: each known key once, then complains about what is left.
class TableReader {
 public:
  TableReader(const Table& table, std::string where) : table_(table), where_(std::move(where)) {}

  void text(const char* key, const std::function<Status(const std::string&)>& set) {
    const Value* value = take(key);
    if (!value) return;
    if (!value->is_string()) return fail(bad(name(key), describe(*value), "give a text in quotes"));
    fail_if(key, set(value->as_string().str));
  }
  void text(const char* key, std::string* to) {
    text(key, [to](const std::string& v) { return *to = v, Status(); });
  }
  template <typename T>
  void word(const char* key, Result<T> (*parse)(std::string_view), const std::function<void(T)>& set) {
    text(key, [&](const std::string& v) -> Status {
      Result<T> parsed = parse(v);
      if (!parsed) return parsed.error();
      set(*parsed);
      return {};
    });
  }
  // Sizes may be written as numbers too.
  void size(const char* key, const std::function<void(SizeSpec)>& set) {
    const Value* value = take(key);
    if (!value) return;
    Result<SizeSpec> parsed = parse_size(describe(*value));
    if (!parsed)
      return fail(bad(name(key), describe(*value), "use bytes (1000000), a unit (\"8GiB\") or a share (\"50%\")"));
    set(*parsed);
  }
  void number(const char* key, uint32_t low, uint32_t high, uint32_t* to) {
    const Value* value = take(key);
    if (!value) return;
    if (!value->is_integer() || value->as_integer() < low || value->as_integer() > high)
      return fail(bad(name(key), describe(*value), fmt::format("give a whole number from {} to {}", low, high)));
    *to = static_cast<uint32_t>(value->as_integer());
  }
  void boolean(const char* key, bool* to) {
    const Value* value = take(key);
    if (!value) return;
    if (!value->is_boolean()) return fail(bad(name(key), describe(*value), "give true or false"));
    *to = value->as_boolean();
  }
  const Value* take(const char* key) {
    known_.push_back(key);
    auto found = table_.find(key);
    return found == table_.end() ? nullptr : &found->second;
  }
  std::string name(std::string_view key) const { return where_ + std::string(key); }
  void fail(Error e) {
    if (status_.ok()) status_ = std::move(e);
  }
  void fail_if(const Status& s) {
    if (!s) fail(s.error());
  }
  void fail_if(std::string_view key, const Status& s) {
    if (!s) fail(make_error(EINVAL, name(key) + ": " + s.error().message));
  }
  Status finish() {
    for (auto&& [key, value] : table_) {
      if (std::find(known_.begin(), known_.end(), key) == known_.end())
        fail(
            make_error(EINVAL, fmt::format("unknown key \"{}{}\"; remove it or correct its name", where_, shown(key))));
    }
    return status_;
  }

 private:
  const Table& table_;
  std::string where_;
  std::vector<std::string> known_;
  Status status_;
};

// A table of store options, values as text. Whether a value fits is for open_store() to say.
Status read_options(const Value& value, const std::string& where, StoreOptions* options) {
  if (!value.is_table()) return make_error(EINVAL, where + ": give a table of options");
  for (auto&& [key, option] : value.as_table()) {
    if (option.is_table() || option.is_array())
      return make_error(EINVAL, fmt::format("{}.{}: give a text", where, shown(key)));
    (*options)[key] = describe(option);
  }
  const Status names = check_option_names(*options);
  return names ? names : make_error(EINVAL, where + ": " + names.error().message);
}

// "s3://bucket/p", "s3://": what sources may begin with.
Status check_prefix(std::string_view prefix) {
  static constexpr std::string_view kSchemes[] = {"s3://", "bos://", "http://", "https://", "file://"};
  const auto begins = [&](std::string_view scheme) { return prefix.starts_with(scheme); };
  if (std::any_of(std::begin(kSchemes), std::end(kSchemes), begins)) return {};
  return make_error(EINVAL, fmt::format("stores.\"{}\": no source begins so; known are {}", shown(prefix),
                                        fmt::join(kSchemes, ", ")));
}

Status read_stores(const Value& value, Config& config) {
  if (!value.is_table()) return make_error(EINVAL, "stores: give tables like [stores.\"s3://bucket\"]");
  for (auto&& [prefix, options] : value.as_table()) {
    if (Status s = check_prefix(prefix); !s) return s;
    if (Status s = read_options(options, "stores.\"" + shown(prefix) + "\"", &config.stores[prefix]); !s) return s;
  }
  return {};
}

Status read_mount(const Table& table, Config& config) {
  MountConfig mount;
  TableReader reader(table, "mount.");
  reader.text("path", &mount.path);
  reader.text("source", &mount.source);
  reader.text("dataset", &mount.dataset);
  reader.word<Fallback>("fallback", parse_fallback, [&](Fallback f) { mount.fallback = f; });
  reader.word<Fill>("fill", parse_fill, [&](Fill f) { mount.fill = f; });
  reader.word<Policy>("policy", parse_policy, [&](Policy p) { mount.policy = p; });
  reader.word<SizeSpec>("quota", parse_quota, [&](SizeSpec q) { mount.quota = q; });
  if (Status s = reader.finish(); !s) return s;
  Result<std::string> path = normal_mount_path(mount.path);
  if (!path) return make_error(EINVAL, "mount.path: " + path.error().message);
  mount.path = *path;
  if (mount.source.empty() == mount.dataset.empty())
    return make_error(EINVAL, "mount of " + mount.path + ": give either source or dataset");
  for (const MountConfig& other : config.mounts)
    if (other.path == mount.path) return make_error(EEXIST, "mount path " + mount.path + " is there twice; remove one");
  config.mounts.push_back(std::move(mount));
  return {};
}

Status read_mounts(const Value& value, Config& config) {
  const auto is_table = [](const Value& entry) { return entry.is_table(); };
  if (!value.is_array() || !std::all_of(value.as_array().begin(), value.as_array().end(), is_table))
    return make_error(EINVAL, "mount: write each as [[mount]]");
  if (value.as_array().size() > kMaxMounts)
    return make_error(E2BIG, fmt::format("{} mounts; {} are possible", value.as_array().size(), kMaxMounts));
  for (const Value& entry : value.as_array())
    if (Status s = read_mount(entry.as_table(), config); !s) return s;
  return {};
}

Status read_root(const Table& table, Config& config) {
  TableReader r(table, "");
  r.text("socket", &config.socket);
  r.word<HomeChoice>("cache_home", parse_home, [&](HomeChoice h) { config.cache_home = h; });
  r.text("cache_dir", &config.cache_dir);
  r.text("cache_dir_readonly", &config.cache_dir_readonly);
  r.text("state_dir", &config.state_dir);
  r.text("meta", &config.meta);
  r.size("cache_size", [&](SizeSpec v) { config.cache_size = v; });
  r.size("reserve", [&](SizeSpec v) { config.reserve = v; });
  r.size("staging", [&](SizeSpec v) { config.staging = v; });
  r.size("lazy_threshold", [&](SizeSpec v) { config.lazy_threshold = v; });
  r.number("wait_ms", 1, 3600000, &config.wait_ms);
  r.number("linger_s", 0, 1000000000, &config.linger_s);
  r.number("scrub_interval_s", 0, 1000000000, &config.scrub_interval_s);
  r.number("connections", 1, 4096, &config.connections);
  r.boolean("private", &config.is_private);
  r.boolean("offline", &config.offline);
  r.text("log_level", &config.log_level);
  r.text("log_file", &config.log_file);
  r.text("admin_group", &config.admin_group);
  r.text("metrics", &config.metrics);
  r.word<Fill>("fill", parse_fill, [&](Fill f) { config.fill = f; });
  r.word<Policy>("policy", parse_policy, [&](Policy p) { config.policy = p; });
  if (const Value* n = r.take("store")) r.fail_if(read_options(*n, "store", &config.store));
  if (const Value* n = r.take("stores")) r.fail_if(read_stores(*n, config));
  if (const Value* n = r.take("mount")) r.fail_if(read_mounts(*n, config));
  return r.finish();
}

}  // namespace

// The first line of what toml11 says, less the name of its function.
static std::string reason(const std::exception& e) {
  std::string text = e.what();
  text.resize(std::min(text.find('\n'), text.size()));
  for (const std::string_view before : {"[error] ", "toml::"})
    if (text.starts_with(before)) text.erase(0, before.size());
  const size_t function_end = text.find(": ");
  if (function_end != std::string::npos && text.find(' ') > function_end) text.erase(0, function_end + 2);
  return text;
}

Status apply_toml(std::string_view text, const std::string& file, Config& config) {
  if (!is_utf8(text)) return make_error(EINVAL, fmt::format("{}: not valid UTF-8; save the file as UTF-8", file));
  if (nests_too_deeply(text))
    return make_error(EINVAL, fmt::format("{}: more than {} levels of tables; write fewer", file, kMaxDepth));
  try {
    std::istringstream in{std::string(text)};
    const Value root = toml::parse<toml::discard_comments, std::map, std::vector>(in, file);
    Status s = read_root(root.as_table(), config);
    if (!s) return make_error(s.error().code, file + ": " + s.error().message);
    return {};
  } catch (const toml::exception& e) {
    return make_error(EINVAL, fmt::format("{}:{}: not valid TOML: {}; correct the line", file, e.location().line(),
                                          shown(reason(e))));
  } catch (const std::exception& e) {
    return make_error(EINVAL, fmt::format("{}: not valid TOML: {}; correct it", file, shown(reason(e))));
  }
}

}  // namespace larder
