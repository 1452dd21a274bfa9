// dup, fcntl, ioctl.
//
// dup and its kin carry the hint "a directory of ours" along. Nothing else depends on them.
#include <errno.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "preload/base/next.h"
#include "preload/base/sys.h"
#include "preload/lazy/handle_hints.h"

namespace larder {
namespace {

int carried(int from, int to) {
  if (to >= 0 && directory_hint(from))
    set_directory_hint(to, true);  // one too many costs a call; a vfork child may be here
  return to;
}

template <typename Real>
int fcntl_wrapper(int fd, int cmd, void* arg, Real real) {
  if (cmd == F_NOTIFY && arg != nullptr && identify_fd(fd).kind == Kind::kFile) return fail(ENOTDIR);
  int r = real ? real(fd, cmd, arg) : libc_result<int>(sys::call(SYS_fcntl, fd, cmd, sys::arg(arg)));
  // The library opens with O_NOFOLLOW, which a program would otherwise see only if it asked for it.
  if (cmd == F_GETFL && r >= 0 && (r & O_NOFOLLOW) && identify_fd(fd).kind != Kind::kNone) return r & ~O_NOFOLLOW;
  return cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC ? carried(fd, r) : r;
}

// The kernel knows no FIONREAD of a directory: the bytes between the position and the end, as of a file.
int unread_bytes(int fd, const Lazy& lazy, int* out) {
  const long at = sys::lseek(fd, 0, SEEK_CUR);
  if (at < 0) return static_cast<int>(at);
  *out = static_cast<int>(static_cast<long>(lazy.size) - at);
  return 0;
}

}  // namespace
}  // namespace larder

using namespace larder;

int larder_dup(int fd) {
  return carried(fd, next.dup ? next.dup(fd) : libc_result<int>(sys::call(SYS_dup, fd)));
}
int larder_dup2(int fd, int to) {
  resolve_next();
  return carried(fd, next.dup2(fd, to));
}
int larder___dup2(int fd, int to) {
  return larder_dup2(fd, to);
}
int larder_dup3(int fd, int to, int flags) {
  return carried(fd, next.dup3 ? next.dup3(fd, to, flags) : libc_result<int>(sys::call(SYS_dup3, fd, to, flags)));
}

#define FCNTL(name)                                \
  int larder_##name(int fd, int cmd, ...) {        \
    va_list ap;                                    \
    va_start(ap, cmd);                             \
    void* arg = va_arg(ap, void*);                 \
    va_end(ap);                                    \
    return fcntl_wrapper(fd, cmd, arg, next.name); \
  }
FCNTL(fcntl)
FCNTL(fcntl64)
FCNTL(__fcntl)

int larder_ioctl(int fd, unsigned long request, ...) {
  va_list ap;
  va_start(ap, request);
  void* arg = va_arg(ap, void*);
  va_end(ap);
  const int r = next.ioctl ? next.ioctl(fd, request, arg)
                           : libc_result<int>(sys::call(SYS_ioctl, fd, static_cast<long>(request), sys::arg(arg)));
  if (__builtin_expect(r >= 0 || request != FIONREAD || errno != ENOTTY, 1)) return r;
  return static_cast<int>(
      on_handle(fd, r, [&](Lazy& lazy) -> ssize_t { return unread_bytes(fd, lazy, static_cast<int*>(arg)); }));
}
