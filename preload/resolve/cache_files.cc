#include "preload/resolve/cache_files.h"

#include <errno.h>

#include "preload/base/sys.h"
#include "preload/resolve/state.h"

namespace larder {
namespace {

int open_below(int root, const CacheName& name, int flags) {
  return sys::openat(root, name.c_str(), flags | O_NOFOLLOW);
}

__attribute__((noinline)) int recover(int lost, int error, const CacheName& name, int flags) {
  if (is_cache_root(lost)) return error;
  reopen_root(lost);
  const int root = process.root_fd.load(std::memory_order_acquire);
  return is_cache_root(root) ? open_below(root, name, flags) : -ENOENT;
}

}  // namespace

int open_in_cache(const CacheName& name, int flags) {
  const int root = process.root_fd.load(std::memory_order_acquire);
  const int fd = open_below(root, name, flags);
  return __builtin_expect(fd >= 0, 1) ? fd : recover(root, fd, name, flags);
}

int open_object(uint64_t dataset_id, ObjectId oid, int flags) {
  const int fd = open_in_cache(object_path(dataset_id, oid), flags);
  return __builtin_expect(fd != -ENOENT, 1) ? fd : open_in_cache(whole_chunks_path(dataset_id, oid), flags);
}

}  // namespace larder
