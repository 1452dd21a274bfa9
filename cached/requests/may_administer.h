// Who may change what the daemon serves and keeps: root, the daemon's own user, and the members of `admin_group`.
#pragma once
#include <string>

#include "cached/server/peer.h"

namespace larder {

// `group`: a name; empty or unknown: nobody but root and the daemon's user. Looks the group up (files, LDAP, ...) if
// the answer depends on it, and then may take long: never on the server's thread. Thread-safe.
bool may_administer(const Peer& peer, const std::string& group);

}  // namespace larder
