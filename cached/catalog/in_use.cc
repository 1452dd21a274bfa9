#include "cached/catalog/in_use.h"

#include <fcntl.h>

#include "cached/base/fd.h"
#include "cached/catalog/cache_dir.h"
#include "cached/catalog/oid_name.h"

namespace larder {

void InUse::opened(ObjectId oid) {
  if (files_.size() < kMost) files_.insert(oid);
}

uint64_t InUse::count(int folder) {
  std::erase_if(files_, [folder](const ObjectId& oid) {
    Fd fd(::openat(folder, oid_name(oid).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    return !fd.valid() || nobody_else_has(fd.get());
  });
  return files_.size();
}

}  // namespace larder
