// dup and its kin carry the hint "a directory of ours" along. Nothing else depends on them.
#include <errno.h>
#include <stdarg.h>

#include "preload/base/next.h"
#include "preload/base/sys.h"
#include "preload/resolve/dispatch.h"

namespace larder {
namespace {

int carried(int from, int to) {
  if (to >= 0 && directory_hint(from))
    set_directory_hint(to, true);  // one too many costs a call; a vfork child may be here
  return to;
}

template <typename Real>
int fcntl_wrapper(int fd, int cmd, void* arg, Real real) {
  int r = real ? real(fd, cmd, arg) : libc_result<int>(sys::call(SYS_fcntl, fd, cmd, sys::arg(arg)));
  return cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC ? carried(fd, r) : r;
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
