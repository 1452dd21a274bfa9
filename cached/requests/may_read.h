// Who may read a dataset: everybody, unless it is restricted to a group; then its members, root and the daemon's own
// user. The one place that decides it, for programs and for the command line. Thread-safe.
#pragma once
#include <sys/types.h>

#include <optional>

#include "cached/server/peer.h"

namespace larder {

// `group`: the one that the dataset is restricted to, if any.
bool may_read(const Peer& peer, std::optional<gid_t> group);

}  // namespace larder
