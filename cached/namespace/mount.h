// What the parts of the namespace hand each other: mounts, requests for them, results. Plain values.
#pragma once
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cached/catalog/dataset.h"
#include "cached/config/config.h"
#include "cached/store/api/distinct_keys.h"

namespace larder {

using StoreOpener = std::function<Result<std::unique_ptr<Store>>(std::string_view source, const StoreOptions& options)>;

struct Mount {
  std::string path;
  std::shared_ptr<Dataset> dataset;
  Fallback fallback = Fallback::kWait;
  bool persist = true;
  bool from_config = false;
};

// Of a long operation. Both may be empty; they are called on the operation's thread, without a lock that readers take.
struct Progress {
  std::function<void(uint64_t done, uint64_t total, uint64_t bytes, uint64_t total_bytes, uint64_t failed)> report;
  std::function<bool()> cancelled;
};

struct MountRequest {
  std::string path;
  std::string name;      // of a registered dataset, or
  std::string source;    // a source, registered under a name made from it
  StoreOptions options;  // of the source
  Fallback fallback = Fallback::kWait;
  std::optional<Fill> fill;
  std::optional<Policy> policy;
  std::optional<uint64_t> quota;  // bytes; 0: none
  // The environment of who asks, as far as source_meaning() looks at it; empty: it is not told.
  std::map<std::string, std::string> environment;
  bool offline = false;  // list nothing: the stored version, whatever `refresh` says
  bool refresh = false;  // list the source; a listing that began at `asked` or later will do
  std::chrono::steady_clock::time_point asked = std::chrono::steady_clock::now();
  bool persist = true;
  bool from_config = false;
};

struct MountResult {
  std::string name, path;
  VersionInfo info;
  std::vector<std::string> warnings;
};

// A mount that could not be made; it is tried again.
struct WaitingMount {
  MountRequest request;
  std::string trouble;  // why
};

struct RefreshResult {
  VersionInfo info;
  uint64_t added = 0, changed = 0, removed = 0;
  SkippedKeys skipped;
  ListedTwice twice;
};

// An errno of a store or of metadata that cannot be reached now; any other is an answer.
inline bool may_pass(int code) {
  for (int passing : {EIO, ETIMEDOUT, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, EAGAIN, ECONNRESET})
    if (code == passing) return true;
  return false;
}

}  // namespace larder
