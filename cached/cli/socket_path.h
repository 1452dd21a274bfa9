// Where larderd's socket is (docs/protocol.md, "Where the socket is").
#pragma once
#include <string>

#include "larder/result.h"

namespace larder::cli {

enum class SocketOrigin {
  kEnvironment,  // LARDER_SOCKET
  kSystem,       // /run/larder/larder.sock
  kUser,         // $XDG_RUNTIME_DIR/larder/larder.sock, or /tmp/larder-<uid>/larder.sock
};

struct SocketPath {
  std::string path;
  SocketOrigin origin;
};

// The socket to talk to. EACCES, with the remedy, if it would be in a /tmp folder that is not this user's own.
Result<SocketPath> find_socket();

// Makes the folder of a socket for a private daemon: 0700. EACCES if it exists and belongs to somebody else.
Status make_socket_folder(const SocketPath& socket);

// $XDG_STATE_HOME/larder, or ~/.local/state/larder: logs and metadata of a private daemon. Made if missing.
Result<std::string> user_state_folder();

}  // namespace larder::cli
