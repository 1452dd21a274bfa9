// The larderd that `larder run --mount` starts for its user when none is running, under a keeper (cached/keeper).
//
// The keeper is not a child of the caller, since a program may wait for its children. It has its own session and logs
// to <state folder>/larderd.log. larderd has the caller's environment (credentials are there, never on its command
// line), and ends by itself after `linger` seconds without programs; the keeper stays, and the next run has it start
// another, in that run's environment.
#pragma once
#include <sys/types.h>
#include <cstdint>
#include <string>

#include "cached/cli/client.h"
#include "cached/cli/socket_path.h"

namespace larder::cli {

struct DaemonOptions {
  std::string cache_size;  // "20G", "50%"; empty: the daemon's default
  std::string cache_dir;   // empty: the daemon's default
  std::string meta;        // empty: the daemon's default
  uint64_t linger_s = 600;
};

enum class Found { kRunning, kIdleKeeper, kNobody };

// What is at a socket. Starts nothing.
Result<Found> find_daemon(const Client& client);

class PrivateDaemon {
 public:
  // Starts a daemon, unless one answers by now (two runs at once start one daemon), and waits until it answers. If it
  // does not start: an error with the last line of its log; what this call started has ended.
  static Result<PrivateDaemon> ensure(const SocketPath& socket, const DaemonOptions& options);

  bool started() const { return pid_ > 0; }  // false: there was a keeper, or a larderd
  pid_t pid() const { return pid_; }         // the keeper's

  // Ends what ensure() started, and removes its cache directory if that is new: for a mount that failed.
  // Does nothing if another program uses the daemon by now.
  void undo(const Client& client);

 private:
  static Result<pid_t> launch(const SocketPath& socket, const DaemonOptions& options, Found found, int log);

  pid_t pid_ = 0;
  std::string made_folder_;  // of the socket
  int64_t start_ns_ = 0;     // CLOCK_REALTIME, before the daemon
};

// The log of this user's private daemon.
Result<std::string> daemon_log_path(const SocketPath& socket);

// larder-keeper beside this executable, or in ../lib. ENOENT with the remedy.
Result<std::string> find_keeper();

// larderd beside this executable, or in PATH. ENOENT with the remedy.
Result<std::string> find_larderd();

// Folder of this executable.
std::string own_folder();

}  // namespace larder::cli
