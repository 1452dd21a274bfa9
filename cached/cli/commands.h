// The subcommands that are one request to the daemon. Each returns the exit status.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "cached/cli/client.h"

namespace larder::cli {

class Progress;
using Options = std::map<std::string, std::string>;

// Converts a progress reply for Progress.
std::function<void(const Json&)> draw(Progress& progress);

struct FormatArgs {
  std::string name, source, group;
  Options options;
  bool restore = false;  // publish again what the daemon has loaded
};
int format_dataset(const Client& client, const FormatArgs& args);

struct MountArgs {
  std::string source;  // a dataset's name or a URL
  std::string path;
  Options options;
  std::string fill;      // empty: the daemon's default
  std::string fallback;  // empty: wait
  std::string policy;    // empty: the daemon's default
  std::string quota;     // empty: as it is
  bool refresh = false;
  bool offline = false;          // the stored version, and nothing is listed
  bool own_environment = false;  // the source means what it means in this process' environment, or nothing
};
int mount_dataset(const Client& client, const MountArgs& args);
int umount_path(const Client& client, const std::string& path);
// `offline`: takes the stored version, and lists nothing.
int refresh_dataset(const Client& client, const std::string& name, bool offline);

struct WarmArgs {
  std::vector<std::string> paths;
  std::string list;  // a file with a path a line; "-" is stdin
  int jobs = 0;      // 0: the daemon decides
  bool pin = false;
  bool wait = true;   // for the job to end
  uint64_t stop = 0;  // end this job, and nothing else
};
int warm_paths(const Client& client, const WarmArgs& args);
int unpin_paths(const Client& client, const std::vector<std::string>& paths);
int evict_paths(const Client& client, const std::vector<std::string>& paths);
int check_cache(const Client& client, bool repair, const std::string& path);
int shutdown_daemon(const Client& client);

// Mounts and returns the daemon's object; with refresh and progress. EEXIST is explained with both sources.
Result<Json> request_mount(const Client& client, const MountArgs& args, bool persist);

// Prints the warnings of a mount's result: objects that no path can name.
void report_skipped(const Json& result, const std::string& source);

}  // namespace larder::cli
