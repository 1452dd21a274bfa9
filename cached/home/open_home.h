// Which home the cache gets.
#pragma once
#include "cached/config/config.h"
#include "cached/home/home.h"

namespace larder {

// With cache_home = "auto":
//   1. the folder that the configuration names;
//   2. the own home of a former daemon, if somebody kept it;
//   3. an own home, if whoever started larderd keeps its descriptors (NOTIFY_SOCKET): else the cache would end with it;
//   4. the default folder.
// "own" and "folder" leave out the others; an own home that cannot be made is then an error. Home::reason() says why.
//
// Gives up the right to mount (CAP_SYS_ADMIN) afterwards: call it before other threads start.
Result<Home> open_home(const Config& config, StoredDescriptors& stored);

}  // namespace larder
