// The current directory. Inside a dataset it is a real (mirror) directory, so the kernel keeps it over fork and exec;
// these wrappers give it its name back.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preload/base/next.h"
#include "preload/base/sys.h"
#include "preload/resolve/daemon_client.h"
#include "preload/wrap/open.h"

namespace larder {
namespace {

// This is right in a vfork child, too, which resets its parent's hint: an unknown hint only costs time.
void forget_cwd() {
  process.cwd.store(static_cast<int>(CwdClass::kUnknown), std::memory_order_relaxed);
}

int change_directory(Found& f) {
  if (f.kind == Kind::kMissing) return fail(f.error);
  if (f.kind == Kind::kFile) return fail(ENOTDIR);
  int fd = open_directory(f, O_CLOEXEC);
  if (fd < 0) return fail(-fd);
  int r = sys::fchdir(fd);
  set_directory_hint(fd, false);
  sys::close(fd);
  forget_cwd();
  return r < 0 ? fail(-r) : 0;
}

// A descriptor's path leads to the handle of a lazy file, which to the kernel is a directory.
bool leads_to_lazy_file(const char* path) {
  struct stat st;
  return path != nullptr && (strncmp(path, "/proc/", 6) == 0 || strncmp(path, "/dev/", 5) == 0) &&
         current_state() != nullptr && sys::fstatat(AT_FDCWD, path, &st, 0) == 0 && identify(st).lazy;
}

// True: the current directory is a dataset's; its path is in `out` (PATH_MAX).
bool virtual_cwd(char* out, long* n) {
  struct stat st;
  if (current_state() == nullptr || sys::fstatat(AT_FDCWD, ".", &st, 0) != 0) return false;
  Identity id = identify(st);
  if (id.kind != Kind::kDirectory && id.kind != Kind::kAbove) return false;
  *n = directory_path(id, out);
  return true;
}

char* hand_out(const char* path, long n, char* buf, size_t size) {
  if (n < 0) return errno = static_cast<int>(-n), nullptr;
  size_t need = static_cast<size_t>(n) + 1;
  if (buf != nullptr && size == 0) return errno = EINVAL, nullptr;
  if (size != 0 && size < need) return errno = ERANGE, nullptr;
  if (buf == nullptr) buf = static_cast<char*>(malloc(size != 0 ? size : need));
  if (buf != nullptr) memcpy(buf, path, need);
  return buf;
}

}  // namespace
}  // namespace larder

using namespace larder;

int larder_chdir(const char* path) {
  return dispatch(
      AT_FDCWD, path, true, [](Found& f) { return change_directory(f); },
      [&](int, const char* p) {
        if (leads_to_lazy_file(p)) return fail(ENOTDIR);
        const int r = next.chdir ? next.chdir(p) : libc_result<int>(sys::call(SYS_chdir, sys::arg(p)));
        forget_cwd();
        return r;
      });
}

int larder_fchdir(int fd) {
  if (identify_fd(fd).kind == Kind::kFile) return fail(ENOTDIR);
  const int r = next.fchdir ? next.fchdir(fd) : libc_result<int>(sys::fchdir(fd));
  forget_cwd();
  return r;
}

// A dataset cannot be a root directory: nothing in it can be executed.
int larder_chroot(const char* path) {
  resolve_next();
  return dispatch(
      AT_FDCWD, path, true,
      [](Found& f) {
        return fail(f.kind == Kind::kMissing ? f.error : f.kind == Kind::kFile ? ENOTDIR : EACCES);
      },
      [](int, const char* p) {
        int r = next.chroot(p);
        if (r == 0) lose_daemon();
        forget_cwd();
        return r;
      });
}

char* larder_getcwd(char* buf, size_t size) {
  char path[PATH_MAX];
  long n;
  if (virtual_cwd(path, &n)) return hand_out(path, n, buf, size);
  resolve_next();
  return next.getcwd(buf, size);
}

char* larder___getcwd_chk(char* buf, size_t size, size_t buflen) {
  char path[PATH_MAX];
  long n;
  if (size <= buflen && virtual_cwd(path, &n)) return hand_out(path, n, buf, size);
  resolve_next();
  return next.__getcwd_chk(buf, size, buflen);
}

char* larder_getwd(char* buf) {
  char path[PATH_MAX];
  long n;
  if (buf != nullptr && virtual_cwd(path, &n)) return hand_out(path, n, buf, PATH_MAX);
  resolve_next();
  return next.getwd(buf);
}

char* larder___getwd_chk(char* buf, size_t buflen) {
  char path[PATH_MAX];
  long n;
  if (buf != nullptr && virtual_cwd(path, &n) && n < static_cast<long>(buflen)) return hand_out(path, n, buf, buflen);
  resolve_next();
  return next.__getwd_chk(buf, buflen);
}

char* larder_get_current_dir_name() {
  char path[PATH_MAX];
  long n;
  if (virtual_cwd(path, &n)) return hand_out(path, n, nullptr, 0);
  resolve_next();
  return next.get_current_dir_name();
}
