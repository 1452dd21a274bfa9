// The daemon's configuration: defaults < TOML file < command-line flags. docs/configuration.md lists the keys.
//
// An error is one line that names the value and says what to do. Nothing here changes the disk or keeps state: any
// thread may call it.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cached/store/api/store.h"
#include "larder/result.h"
#include "larder/shm.h"

namespace larder {

// "8GiB", "500M", "123456" or "50%" (of the file system, or of cache_size: the key says which).
struct SizeSpec {
  uint64_t bytes = 0;
  double percent = 0;  // used if bytes is 0
  uint64_t of(uint64_t whole) const {
    return bytes ? bytes : static_cast<uint64_t>(static_cast<double>(whole) * percent / 100);
  }
};
Result<SizeSpec> parse_size(std::string_view text);

// What stays in a full cache: what is there, or what is visited again (cached/catalog/sieve.h).
enum class Policy { kKeep, kSieve };
Result<Policy> parse_policy(std::string_view text);
// A size; "none" is 0.
Result<SizeSpec> parse_quota(std::string_view text);

// What the first miss in a dataset starts to fetch: the dataset, its folder, nothing else.
enum class Fill { kEager, kSiblings, kOff };
Result<Fill> parse_fill(std::string_view text);
Result<Fallback> parse_fallback(std::string_view text);

// Where the cache lies (cached/home/open_home.h): memory of the daemon's own where that is kept and can be made, else a
// folder; one of the two alone.
enum class HomeChoice { kAuto, kOwn, kFolder };
Result<HomeChoice> parse_home(std::string_view text);

struct MountConfig {
  std::string path;
  std::string source;  // one of source, dataset
  std::string dataset;
  Fallback fallback = Fallback::kWait;
  std::optional<Fill> fill;
  std::optional<Policy> policy;
  std::optional<SizeSpec> quota;  // of cache_size
};

struct Config {
  bool is_private = false;
  std::string socket;
  HomeChoice cache_home = HomeChoice::kAuto;
  std::string cache_dir;            // the folder, if it is one
  bool cache_dir_is_named = false;  // the file or the command line names it: then it is one
  std::string cache_dir_readonly;   // the same folder in a read-only mount; "": there is none
  std::string state_dir;
  std::string meta = "local:";
  std::optional<SizeSpec> cache_size;    // unset: min(50 % of what there is, 80 % of what is free)
  std::optional<SizeSpec> reserve;       // unset: min(5 % of what there is, 1 GiB) stays free
  SizeSpec staging{0, 0.5};              // of cache_size: recently read files of a dataset that does not fit
  SizeSpec lazy_threshold{64 << 20, 0};  // larger objects are read by chunks, as they are needed
  uint32_t wait_ms = 30000;
  uint32_t scrub_interval_s = 86400;  // how often the cache is compared with its checksums; 0: never
  uint32_t linger_s = 0;              // private: end after this long without programs; 0: never
  // Objects under way: half as many again as a store has connections (cached/store/http/http_store.cc), because bodies
  // that have arrived wait for each other to be verified (cached/store/http/plain_transport.h), or are being written.
  uint32_t connections = 108;
  bool offline = false;  // no source is listed: mounts and refreshes use stored versions
  std::string log_level = "info";
  std::string log_file;
  std::string admin_group;
  std::string metrics;  // "127.0.0.1:9568"; empty: no port
  Fill fill = Fill::kEager;
  Policy policy = Policy::kKeep;
  StoreOptions store;                          // [store]: for every source
  std::map<std::string, StoreOptions> stores;  // [stores."s3://bucket"]: for sources that start with it
  std::vector<MountConfig> mounts;
  std::vector<std::string> warnings;
};

// Command-line flags; an empty optional leaves the value of the file or the default.
struct ConfigFlags {
  std::optional<std::string> config_file, socket, cache_dir, cache_size, state_dir, meta, log_file, log_level;
  std::optional<uint32_t> linger_s;
  bool is_private = false;
  bool check = false;  // only check the configuration
};

inline constexpr const char* kDefaultConfigFile = "/etc/larder/larder.toml";

Result<Config> load_config(const ConfigFlags& flags);

// Reads TOML text into `config`. `file` is for messages.
Status apply_toml(std::string_view text, const std::string& file, Config& config);

// Options of a source: [store], then each [stores."prefix"] that the source starts with, then `own`; later ones win.
StoreOptions options_for(const Config& config, const std::string& source, const StoreOptions& own);

// An absolute path without "//", "." and trailing "/". EINVAL: "/", "..", control bytes, or too long.
Result<std::string> normal_mount_path(std::string_view path);

struct CacheLimits {
  uint64_t cache_size = 0;
  uint64_t reserve = 0;
  uint64_t staging = 0;
};
// What there is for the cache, in bytes.
struct Capacity {
  std::string of;  // "the file system of /dev/shm/larder"
  uint64_t total = 0, free = 0;
  uint64_t limit = UINT64_MAX;  // of the memory of larderd's control group
  std::string limited_by;       // the file that says so
  uint64_t used = 0;            // by the cache already
};
// Checks the sizes against it.
Result<CacheLimits> plan_limits(const Config& config, const Capacity& capacity);

}  // namespace larder
