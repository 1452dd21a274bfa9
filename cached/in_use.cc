#include "cached/in_use.h"

#include <fcntl.h>

#include "cached/cache_dir.h"
#include "cached/fd.h"

namespace larder {

void InUse::opened(ObjectId oid) {
  if (files_.size() < kMost) files_.insert(oid);
}

uint64_t InUse::count(int folder) {
  std::erase_if(files_, [folder](const ObjectId& oid) {
    char name[33];
    object_name(oid, name);
    Fd fd(::openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    return !fd.valid() || nobody_else_has(fd.get());
  });
  return files_.size();
}

}  // namespace larder
