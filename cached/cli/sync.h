// larder sync SRC DST: works without larderd.
#pragma once
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace larder::cli {

struct SyncArgs {
  std::string source, target;
  std::map<std::string, std::string> source_options, target_options;
  std::vector<std::pair<bool, std::string>> filters;  // include?, pattern: in the order of the command line
  bool remove = false, remove_all = false, dry_run = false, checksum = false, size_only = false;
  bool verbose = false, quiet = false, json = false;
  int jobs = 32;
  std::string bwlimit;
};
int sync_ends(const SyncArgs& args);

}  // namespace larder::cli
