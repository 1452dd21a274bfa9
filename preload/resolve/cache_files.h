// The one way to open something in the cache directory, whatever a program has done to our descriptor of it.
#pragma once
#include "larder/names.h"

namespace larder {

// Opens a file, a handle, a directory, a chunk map or chunk data; O_NOFOLLOW is added. A descriptor or -errno.
//
// One system call if it succeeds. If it fails, and the program has closed our descriptor of the cache directory or put
// something else there, larderd (or the keeper, while it is away) gives a new one, and the name is tried once more.
// -ENOENT: there is no such name, or no cache directory can be had just now; larderd is whom to ask in both cases.
//
// Any thread, also in a signal handler; a vfork child never repairs its parent's descriptor.
int open_in_cache(const CacheName& name, int flags);

// Opens a whole object: where objects that came at once lie, else where those lie that came in chunks. One system call
// more for the latter, which are large.
int open_object(uint64_t dataset_id, ObjectId oid, int flags);

}  // namespace larder
