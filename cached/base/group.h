// Groups of the system, by name, as the node's name services know them. Threads: any. May ask a directory server: not
// for the server's thread.
#pragma once
#include <sys/types.h>

#include <string>

#include "larder/result.h"

namespace larder {

// ENOENT: there is no such group. Other errors: it cannot be told.
Result<gid_t> group_id(const std::string& name);

}  // namespace larder
