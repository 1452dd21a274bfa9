// The mounts that a restart brings back: a JSON file in the state folder, replaced atomically.
#pragma once
#include <string>
#include <vector>

#include "cached/config/config.h"
#include "larder/result.h"

namespace larder {

struct StoredMount {
  std::string path;
  std::string dataset;  // name
  std::string source;
  Fallback fallback = Fallback::kWait;
  Fill fill = Fill::kEager;
  Policy policy = Policy::kKeep;
  uint64_t quota = 0;   // bytes; 0: none
  bool persist = true;  // false: only while the cache directory `instance` lives (a crash, not a reboot)
  uint64_t instance = 0;
};

class MountList {
 public:
  explicit MountList(std::string file) : file_(std::move(file)) {}
  // No file: no mounts. EINVAL with the file's name if it is damaged.
  Result<std::vector<StoredMount>> load() const;
  Status save(const std::vector<StoredMount>& mounts) const;

 private:
  std::string file_;
};

const char* fallback_name(Fallback f);
const char* fill_name(Fill f);
const char* policy_name(Policy p);

}  // namespace larder
