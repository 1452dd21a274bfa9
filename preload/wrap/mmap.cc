// mmap of lazy files, and advice about mappings. The kernel is asked first: a handle is a directory to it, and only its
// ENODEV leads here. Everything that is not a lazy file pays one compare after the call.
#include <errno.h>
#include <sys/mman.h>

#include "preload/base/next.h"
#include "preload/base/sys.h"
#include "preload/lazy/lazy_files.h"
#include "preload/lazy/lazy_read.h"
#include "preload/lazy/paged_mmap.h"

namespace larder {
namespace {

void count_error() {
  count(&StatSlot::errors);
}

// Without userfaultfd: maps the whole object, which stays in the cache as long as it is mapped. ENODEV: it is too large
// for that, and the program must read instead.
long map_whole(const Lazy& lazy, void* at, size_t length, int prot, int flags, off_t offset) {
  sys::Fd file(open_whole(lazy));
  if (file.get() < 0) return file.get() == -EFBIG ? -ENODEV : file.get();
  return sys::call(SYS_mmap, sys::arg(at), static_cast<long>(length), prot, flags, file.get(), offset);
}

long map_lazy(const Lazy& lazy, void* at, size_t length, int prot, int flags, off_t offset) {
  LazyFiles files;
  if (const int error = open_lazy_files(lazy.dataset_id, lazy.handle_inode, &files)) return error;
  sys::Fd data(files.data);
  const Patience p = patience(lazy.dataset_id);
  PagedFile what;
  what.dataset_id = lazy.dataset_id;
  what.handle_inode = lazy.handle_inode;
  what.wait_ms = p.wait_ms;
  what.hasty = p.fallback != Fallback::kWait;
  pager_gave_up.store(count_error, std::memory_order_release);
  const long r = map_paged(at, length, prot, flags, static_cast<uint64_t>(offset), files, what);
  if (r > 0 && (flags & MAP_POPULATE)) advise_paged(reinterpret_cast<void*>(r), length);
  return r;
}

// The kernel said ENODEV. errno is that, unless the descriptor is a handle.
__attribute__((noinline)) void* map_handle(void* at, size_t length, int prot, int flags, int fd, off_t offset) {
  const int error = errno;
  Lazy lazy;
  const int found = find_lazy(fd, &lazy);
  if (found == -EISDIR || found == -EBADF) return errno = error, MAP_FAILED;
  long r = found;
  if (found == 0 && process.whole_mappings)
    r = -EPERM;
  else if (found == 0)
    r = own_process() ? map_lazy(lazy, at, length, prot, flags, offset) : -EAGAIN;
  if (r == -ENOSYS || r == -EPERM || r == -EACCES) r = map_whole(lazy, at, length, prot, flags, offset);
  if (r < 0 && r > -4096) return errno = static_cast<int>(-r), MAP_FAILED;
  return errno = error, reinterpret_cast<void*>(r);
}

template <typename Real>
inline void* map_any(Real real, void* at, size_t length, int prot, int flags, int fd, off_t offset) {
  void* p;
  if (real != nullptr) {
    p = real(at, length, prot, flags, fd, offset);
  } else {
    const long r = sys::call(SYS_mmap, sys::arg(at), static_cast<long>(length), prot, flags, fd, offset);
    p = r < 0 && r > -4096 ? (errno = static_cast<int>(-r), MAP_FAILED) : reinterpret_cast<void*>(r);
  }
  if (__builtin_expect(p != MAP_FAILED, 1) || errno != ENODEV || fd < 0 || (flags & MAP_ANONYMOUS)) return p;
  return map_handle(at, length, prot, flags, fd, offset);
}

}  // namespace
}  // namespace larder

using namespace larder;

void* larder_mmap(void* at, size_t length, int prot, int flags, int fd, off_t offset) {
  return map_any(next.mmap, at, length, prot, flags, fd, offset);
}
void* larder_mmap64(void* at, size_t length, int prot, int flags, int fd, off64_t offset) {
  return map_any(next.mmap64, at, length, prot, flags, fd, offset);
}

int larder_madvise(void* start, size_t length, int advice) {
  if (advice == MADV_WILLNEED) advise_paged(start, length);
  if (next.madvise != nullptr) return next.madvise(start, length, advice);
  return libc_result<int>(sys::call(SYS_madvise, sys::arg(start), static_cast<long>(length), advice));
}
int larder_posix_madvise(void* start, size_t length, int advice) {
  if (advice == POSIX_MADV_WILLNEED) advise_paged(start, length);
  if (next.posix_madvise != nullptr) return next.posix_madvise(start, length, advice);
  if (advice == POSIX_MADV_DONTNEED) return 0;  // as libc
  return static_cast<int>(-sys::call(SYS_madvise, sys::arg(start), static_cast<long>(length), advice));
}
