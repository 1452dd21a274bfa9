// Starting programs. Files of a dataset have no x bit, so executing one is EACCES, as on a noexec mount; file actions
// of posix_spawn may open datasets and change into them.
#include <alloca.h>
#include <errno.h>
#include <spawn.h>
#include <stdarg.h>
#include <string.h>

#include "preload/base/next.h"
#include "preload/base/sys.h"
#include "preload/wrap/open.h"

extern "C" char** environ;

namespace larder {
namespace {

// What to execute. `error`: it is a dataset's file, or a path that only looks like one. Otherwise `path`, which the
// kernel understands.
struct Program {
  int error = 0;
  const char* path;
  Found found;

  explicit Program(const char* p) : path(p) {
    if (p == nullptr || current_state() == nullptr) return;
    struct stat st;
    bool ours = maybe_ours(AT_FDCWD, p) && route(AT_FDCWD, p, &found);
    if (found.rebased)
      path = found.path;
    else if (!ours && sys::fstatat(AT_FDCWD, p, &st, 0) == -ENOENT && may_lead_to_ours(AT_FDCWD, p)) {
      ours = route_missing(AT_FDCWD, p, true, &found);  // a symlink leads into a dataset
    }
    if (ours) error = found.kind == Kind::kMissing ? found.error : EACCES;
  }
};

bool has_slash(const char* file) {
  return file != nullptr && strchr(file, '/') != nullptr;
}

}  // namespace
}  // namespace larder

using namespace larder;

int larder_execve(const char* path, char* const argv[], char* const envp[]) {
  Program program(path);
  if (program.error) return fail(program.error);
  resolve_next();
  return next.execve(program.path, argv, envp);
}
int larder_execv(const char* path, char* const argv[]) {
  Program program(path);
  if (program.error) return fail(program.error);
  resolve_next();
  return next.execv(program.path, argv);
}
int larder_execvp(const char* file, char* const argv[]) {
  if (has_slash(file)) return larder_execv(file, argv);
  resolve_next();
  return next.execvp(file, argv);
}
int larder_execvpe(const char* file, char* const argv[], char* const envp[]) {
  if (has_slash(file)) return larder_execve(file, argv, envp);
  resolve_next();
  return next.execvpe(file, argv, envp);
}

// The arguments of an execl call as an array, on the stack of the caller: exec may run in a vfork child.
#define COLLECT_ARGUMENTS(first)                                      \
  va_list ap;                                                         \
  size_t n = 1;                                                       \
  va_start(ap, first);                                                \
  while (va_arg(ap, char*) != nullptr)                                \
    ++n;                                                              \
  va_end(ap);                                                         \
  auto** argv = static_cast<char**>(alloca((n + 1) * sizeof(char*))); \
  argv[0] = const_cast<char*>(first);                                 \
  va_start(ap, first);                                                \
  for (size_t i = 1; i <= n; ++i)                                     \
    argv[i] = va_arg(ap, char*);

int larder_execl(const char* path, const char* arg, ...) {
  COLLECT_ARGUMENTS(arg)
  va_end(ap);
  return larder_execv(path, argv);
}
int larder_execlp(const char* file, const char* arg, ...) {
  COLLECT_ARGUMENTS(arg)
  va_end(ap);
  return larder_execvp(file, argv);
}
int larder_execle(const char* path, const char* arg, ...) {
  COLLECT_ARGUMENTS(arg)
  char* const* envp = va_arg(ap, char* const*);
  va_end(ap);
  return larder_execve(path, argv, envp);
}

// The descriptor names the file; a mirror or a cache file has no x bit either.
int larder_fexecve(int fd, char* const argv[], char* const envp[]) {
  resolve_next();
  return next.fexecve(fd, argv, envp);
}
int larder_execveat(int dirfd, const char* path, char* const argv[], char* const envp[], int flags) {
  resolve_next();
  auto native = [&](int at, const char* p) {
    if (next.execveat) return next.execveat(at, p, argv, envp, flags);
    return libc_result<int>(sys::call(SYS_execveat, at, sys::arg(p), sys::arg(argv), sys::arg(envp), flags));
  };
  return dispatch(
      dirfd, path, (flags & AT_SYMLINK_NOFOLLOW) == 0,
      [](Found& f) { return fail(f.kind == Kind::kMissing ? f.error : EACCES); }, native);
}

int larder_posix_spawn(pid_t* pid, const char* path, const posix_spawn_file_actions_t* actions,
                       const posix_spawnattr_t* attr, char* const argv[], char* const envp[]) {
  Program program(path);
  if (program.error) return program.error;
  resolve_next();
  return next.posix_spawn(pid, program.path, actions, attr, argv, envp);
}
int larder_posix_spawnp(pid_t* pid, const char* file, const posix_spawn_file_actions_t* actions,
                        const posix_spawnattr_t* attr, char* const argv[], char* const envp[]) {
  Program program(has_slash(file) ? file : nullptr);
  if (program.error) return program.error;
  resolve_next();
  return next.posix_spawnp(pid, program.path ? program.path : file, actions, attr, argv, envp);
}

// glibc 2.39 and later; no program calls them where libc has none.
int larder_pidfd_spawn(int* pidfd, const char* path, const posix_spawn_file_actions_t* actions,
                       const posix_spawnattr_t* attr, char* const argv[], char* const envp[]) {
  Program program(path);
  if (program.error) return program.error;
  resolve_next();
  return next.pidfd_spawn ? next.pidfd_spawn(pidfd, program.path, actions, attr, argv, envp) : ENOSYS;
}
int larder_pidfd_spawnp(int* pidfd, const char* file, const posix_spawn_file_actions_t* actions,
                        const posix_spawnattr_t* attr, char* const argv[], char* const envp[]) {
  Program program(has_slash(file) ? file : nullptr);
  if (program.error) return program.error;
  resolve_next();
  return next.pidfd_spawnp ? next.pidfd_spawnp(pidfd, program.path ? program.path : file, actions, attr, argv, envp)
                           : ENOSYS;
}

// ---- file actions ---------------------------------------------------------------------------------------------------
// libc's child opens without calling the library. So the library opens now, and the child takes this descriptor, which
// is kept until the actions end.

namespace {

struct Kept {
  std::atomic<const void*> actions;
  int fd;
};
constinit Kept kept[128] = {};

bool keep(const void* actions, int fd) {
  for (Kept& k : kept) {
    const void* none = nullptr;
    if (!k.actions.compare_exchange_strong(none, &k)) continue;  // taken, not yet named
    k.fd = fd;
    k.actions.store(actions, std::memory_order_release);
    return true;
  }
  return false;
}

void let_go(const void* actions) {
  for (Kept& k : kept) {
    if (k.actions.load(std::memory_order_acquire) != actions) continue;
    sys::close(k.fd);
    k.actions.store(nullptr, std::memory_order_release);
  }
}

// A kept descriptor for a dataset's file or folder, -1 if it is not a dataset's (the child tries), or -errno - 1.
int kept_descriptor(const void* actions, const char* path, int flags) {
  constexpr int kNotOurs = -1;
  int fd = dispatch(
      AT_FDCWD, path, true,
      [&](Found& f) { return f.kind == Kind::kMissing ? kNotOurs : open_found(f, flags | O_CLOEXEC); },
      [](int, const char*) { return kNotOurs; });
  if (fd == kNotOurs) return kNotOurs;
  if (fd < 0) return fd - 1;
  int high = sys::fcntl(fd, F_DUPFD_CLOEXEC, 64);  // a number that no earlier action of the child makes
  if (high >= 0) {
    sys::close(fd);
    fd = high;
  }
  if (keep(actions, fd)) return fd;
  sys::close(fd);
  return -ENOMEM - 1;
}

}  // namespace

int larder_posix_spawn_file_actions_addopen(posix_spawn_file_actions_t* actions, int fd, const char* path, int flags,
                                            mode_t mode) {
  resolve_next();
  int ours = kept_descriptor(actions, path, flags);
  if (ours == -1) return next.posix_spawn_file_actions_addopen(actions, fd, path, flags, mode);
  return ours < 0 ? -(ours + 1) : posix_spawn_file_actions_adddup2(actions, ours, fd);
}
int larder_posix_spawn_file_actions_addchdir_np(posix_spawn_file_actions_t* actions, const char* path) {
  resolve_next();
  int ours = next.posix_spawn_file_actions_addfchdir_np ? kept_descriptor(actions, path, O_RDONLY | O_DIRECTORY) : -1;
  if (ours == -1) return next.posix_spawn_file_actions_addchdir_np(actions, path);
  return ours < 0 ? -(ours + 1) : next.posix_spawn_file_actions_addfchdir_np(actions, ours);
}
int larder_posix_spawn_file_actions_addfchdir_np(posix_spawn_file_actions_t* actions, int fd) {
  resolve_next();
  if (identify_fd(fd).lazy) return ENOTDIR;  // the child's fchdir would go into the handle
  return next.posix_spawn_file_actions_addfchdir_np(actions, fd);
}
int larder_posix_spawn_file_actions_destroy(posix_spawn_file_actions_t* actions) {
  resolve_next();
  let_go(actions);
  return next.posix_spawn_file_actions_destroy(actions);
}
