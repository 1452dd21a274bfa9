// syscall(2) as a function: libuv, Rust crates and others make some calls that way. Intercepted calls go through the
// wrappers; every other number jumps to the next definition untouched (some calls, such as clone, must not find a frame
// of this library).
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/base/next.h"
#include "preload/base/sys.h"
#include "preload/wrap/open.h"

#ifndef SYS_openat2
#define SYS_openat2 437
#endif

namespace larder {
namespace {

constexpr long kOurs[] = {
    SYS_openat,
    SYS_newfstatat,
    SYS_statx,
    SYS_fstat,
    SYS_readlinkat,
    SYS_faccessat,
    SYS_getdents64,
    SYS_chdir,
    SYS_fchdir,
    SYS_unlinkat,
    SYS_mkdirat,
    SYS_renameat2,
    SYS_linkat,
    SYS_symlinkat,
    SYS_mknodat,
    SYS_truncate,
    SYS_fchmodat,
    SYS_fchownat,
    SYS_utimensat,
    SYS_statfs,
    SYS_fstatfs,
    SYS_getcwd,
    SYS_fchmod,
    SYS_fchown,
    SYS_openat2,
    SYS_read,
    SYS_pread64,
    SYS_readv,
    SYS_preadv,
    SYS_lseek,
    SYS_sendfile,
    SYS_copy_file_range,
    SYS_readahead,
    SYS_getxattr,
    SYS_lgetxattr,
    SYS_fgetxattr,
    SYS_listxattr,
    SYS_llistxattr,
    SYS_flistxattr,
    SYS_setxattr,
    SYS_lsetxattr,
    SYS_fsetxattr,
    SYS_removexattr,
    SYS_lremovexattr,
    SYS_fremovexattr,
    SYS_inotify_add_watch,
    SYS_name_to_handle_at,
    SYS_chroot,
    SYS_execve,
    SYS_execveat,
#if defined(SYS_faccessat2)
    SYS_faccessat2,
#endif
#if defined(__x86_64__)
    SYS_mknod,
    SYS_lchown,
    SYS_utime,
    SYS_utimes,
    SYS_futimesat,
    SYS_open,
    SYS_stat,
    SYS_lstat,
    SYS_access,
    SYS_readlink,
    SYS_unlink,
    SYS_mkdir,
    SYS_rmdir,
    SYS_rename,
    SYS_renameat,
    SYS_link,
    SYS_symlink,
    SYS_chmod,
    SYS_chown,
    SYS_creat,
#endif
};

struct Bitmap {
  uint64_t words[8] = {};
  constexpr Bitmap() {
    for (long n : kOurs)
      words[n / 64] |= 1ULL << (n % 64);
  }
};

const char* text(long p) {
  return reinterpret_cast<const char*>(p);
}
char* buffer(long p) {
  return reinterpret_cast<char*>(p);
}
template <typename T>
T* as(long p) {
  return reinterpret_cast<T*>(p);
}

long cwd_of_ours(char* out, size_t size) {
  if (larder_getcwd(out, size) == nullptr) return -1;
  return static_cast<long>(strlen(out)) + 1;
}

// libattr before 2.5 (Debian 11) makes its system calls by syscall(): if it is the next definition, a call that is not
// ours must not come back to it.
bool attribute_call(long n) {
  return n >= SYS_setxattr && n <= SYS_fremovexattr;
}

bool attributes_are_ours(long n, long a) {
  if (n == SYS_fsetxattr || n == SYS_fgetxattr || n == SYS_flistxattr || n == SYS_fremovexattr) {
    struct stat st;
    return current_state() != nullptr && sys::fstat(static_cast<int>(a), &st) == 0 && identify(st).kind != Kind::kNone;
  }
  Scratch<Found> f;
  return f && maybe_ours(AT_FDCWD, text(a)) && route(AT_FDCWD, text(a), f.get());
}

}  // namespace

extern "C" {

__attribute__((visibility("hidden"))) extern const Bitmap larder_syscall_bitmap;
__attribute__((used)) constinit const Bitmap larder_syscall_bitmap;

// Before the constructor ran.
__attribute__((visibility("hidden"), used)) long larder_syscall_early(long n, long a, long b, long c, long d, long e,
                                                                      long f) {
  return libc_result(sys::call(n, a, b, c, d, e, f));
}

__attribute__((visibility("hidden"), used)) long larder_syscall_ours(long n, long a, long b, long c, long d, long e) {
  const int fd = static_cast<int>(a);
  if (attribute_call(n) && !attributes_are_ours(n, a)) return larder_syscall_early(n, a, b, c, d, e, 0);
  switch (n) {
    case SYS_openat:
      return larder_openat(fd, text(b), static_cast<int>(c), static_cast<mode_t>(d));
    case SYS_openat2:
      return open_how_any(fd, text(b), as<const void>(c), static_cast<size_t>(d));
    case SYS_newfstatat:
      return larder_fstatat(fd, text(b), as<struct stat>(c), static_cast<int>(d));
    case SYS_fstat:
      return larder_fstat(fd, as<struct stat>(b));
    case SYS_statx:
      return larder_statx(fd, text(b), static_cast<int>(c), static_cast<unsigned>(d), as<struct statx>(e));
    case SYS_readlinkat:
      return larder_readlinkat(fd, text(b), buffer(c), static_cast<size_t>(d));
    case SYS_faccessat:
      return larder_faccessat(fd, text(b), static_cast<int>(c), 0);
#if defined(SYS_faccessat2)
    case SYS_faccessat2:
      return larder_faccessat(fd, text(b), static_cast<int>(c), static_cast<int>(d));
#endif
    case SYS_read:
      return larder_read(fd, buffer(b), static_cast<size_t>(c));
    case SYS_pread64:
      return larder_pread64(fd, buffer(b), static_cast<size_t>(c), d);
    case SYS_readv:
      return larder_readv(fd, as<const struct iovec>(b), static_cast<int>(c));
    case SYS_preadv:
      return larder_preadv64(fd, as<const struct iovec>(b), static_cast<int>(c), d);
    case SYS_lseek:
      return larder_lseek64(fd, b, static_cast<int>(c));
    case SYS_sendfile:
      return larder_sendfile64(fd, static_cast<int>(b), as<off64_t>(c), static_cast<size_t>(d));
    case SYS_copy_file_range:
      return larder_copy_file_range(fd, as<off64_t>(b), static_cast<int>(c), as<off64_t>(d), static_cast<size_t>(e), 0);
    case SYS_readahead:
      return larder_readahead(fd, b, static_cast<size_t>(c));
    case SYS_getdents64:
      return larder_getdents64(fd, buffer(b), static_cast<size_t>(c));
    case SYS_chdir:
      return larder_chdir(text(a));
    case SYS_fchdir:
      return larder_fchdir(fd);
    case SYS_getcwd:
      return cwd_of_ours(buffer(a), static_cast<size_t>(b));
    case SYS_unlinkat:
      return larder_unlinkat(fd, text(b), static_cast<int>(c));
    case SYS_mkdirat:
      return larder_mkdirat(fd, text(b), static_cast<mode_t>(c));
    case SYS_mknodat:
      return larder_mknodat(fd, text(b), static_cast<mode_t>(c), static_cast<dev_t>(d));
    case SYS_renameat2:
      return larder_renameat2(fd, text(b), static_cast<int>(c), text(d), static_cast<unsigned>(e));
    case SYS_linkat:
      return larder_linkat(fd, text(b), static_cast<int>(c), text(d), static_cast<int>(e));
    case SYS_symlinkat:
      return larder_symlinkat(text(a), static_cast<int>(b), text(c));
    case SYS_truncate:
      return larder_truncate(text(a), b);
    case SYS_fchmodat:
      return larder_fchmodat(fd, text(b), static_cast<mode_t>(c), 0);
    case SYS_fchownat:
      return larder_fchownat(fd, text(b), static_cast<uid_t>(c), static_cast<gid_t>(d), static_cast<int>(e));
    case SYS_fchmod:
      return larder_fchmod(fd, static_cast<mode_t>(b));
    case SYS_fchown:
      return larder_fchown(fd, static_cast<uid_t>(b), static_cast<gid_t>(c));
    case SYS_utimensat:
      return larder_utimensat(fd, text(b), as<struct timespec>(c), static_cast<int>(d));
    case SYS_statfs:
      return larder_statfs(text(a), as<struct statfs>(b));
    case SYS_fstatfs:
      return larder_fstatfs(fd, as<struct statfs>(b));
    case SYS_getxattr:
      return larder_getxattr(text(a), text(b), as<void>(c), static_cast<size_t>(d));
    case SYS_lgetxattr:
      return larder_lgetxattr(text(a), text(b), as<void>(c), static_cast<size_t>(d));
    case SYS_fgetxattr:
      return larder_fgetxattr(fd, text(b), as<void>(c), static_cast<size_t>(d));
    case SYS_listxattr:
      return larder_listxattr(text(a), buffer(b), static_cast<size_t>(c));
    case SYS_llistxattr:
      return larder_llistxattr(text(a), buffer(b), static_cast<size_t>(c));
    case SYS_flistxattr:
      return larder_flistxattr(fd, buffer(b), static_cast<size_t>(c));
    case SYS_setxattr:
      return larder_setxattr(text(a), text(b), as<void>(c), static_cast<size_t>(d), static_cast<int>(e));
    case SYS_lsetxattr:
      return larder_lsetxattr(text(a), text(b), as<void>(c), static_cast<size_t>(d), static_cast<int>(e));
    case SYS_fsetxattr:
      return larder_fsetxattr(fd, text(b), as<void>(c), static_cast<size_t>(d), static_cast<int>(e));
    case SYS_removexattr:
      return larder_removexattr(text(a), text(b));
    case SYS_lremovexattr:
      return larder_lremovexattr(text(a), text(b));
    case SYS_fremovexattr:
      return larder_fremovexattr(fd, text(b));
    case SYS_inotify_add_watch:
      return larder_inotify_add_watch(fd, text(b), static_cast<uint32_t>(c));
    case SYS_name_to_handle_at:
      return larder_name_to_handle_at(fd, text(b), as<struct file_handle>(c), as<int>(d), static_cast<int>(e));
    case SYS_chroot:
      return larder_chroot(text(a));
    case SYS_execve:
      return larder_execve(text(a), as<char* const>(b), as<char* const>(c));
    case SYS_execveat:
      return larder_execveat(fd, text(b), as<char* const>(c), as<char* const>(d), static_cast<int>(e));
#if defined(__x86_64__)
    case SYS_mknod:
      return larder_mknod(text(a), static_cast<mode_t>(b), static_cast<dev_t>(c));
    case SYS_lchown:
      return larder_lchown(text(a), static_cast<uid_t>(b), static_cast<gid_t>(c));
    case SYS_utime:
      return larder_utime(text(a), as<struct utimbuf>(b));
    case SYS_utimes:
      return larder_utimes(text(a), as<struct timeval>(b));
    case SYS_futimesat:
      return larder_futimesat(fd, text(b), as<struct timeval>(c));
    case SYS_open:
      return larder_open(text(a), static_cast<int>(b), static_cast<mode_t>(c));
    case SYS_creat:
      return larder_creat(text(a), static_cast<mode_t>(b));
    case SYS_stat:
      return larder_stat(text(a), as<struct stat>(b));
    case SYS_lstat:
      return larder_lstat(text(a), as<struct stat>(b));
    case SYS_access:
      return larder_access(text(a), static_cast<int>(b));
    case SYS_readlink:
      return larder_readlink(text(a), buffer(b), static_cast<size_t>(c));
    case SYS_unlink:
      return larder_unlink(text(a));
    case SYS_mkdir:
      return larder_mkdir(text(a), static_cast<mode_t>(b));
    case SYS_rmdir:
      return larder_rmdir(text(a));
    case SYS_rename:
      return larder_rename(text(a), text(b));
    case SYS_renameat:
      return larder_renameat(fd, text(b), static_cast<int>(c), text(d));
    case SYS_link:
      return larder_link(text(a), text(b));
    case SYS_symlink:
      return larder_symlink(text(a), text(b));
    case SYS_chmod:
      return larder_chmod(text(a), static_cast<mode_t>(b));
    case SYS_chown:
      return larder_chown(text(a), static_cast<uid_t>(b), static_cast<gid_t>(c));
#endif
    default:
      return errno = ENOSYS, -1;
  }
}

}  // extern "C"

// The address of next.syscall, for the assembly below.
extern "C" __attribute__((visibility("hidden"))) decltype(&next.syscall) const larder_next_syscall;
__attribute__((used)) decltype(&next.syscall) const larder_next_syscall = &next.syscall;

}  // namespace larder

#if defined(__x86_64__)
__asm__(R"(
  .text
  .globl syscall
  .type syscall, @function
syscall:
  cmpq $511, %rdi
  ja 1f
  leaq larder_syscall_bitmap(%rip), %rax
  movq %rdi, %r11
  shrq $6, %r11
  movq (%rax,%r11,8), %rax
  btq %rdi, %rax
  jc larder_syscall_ours
1:
  movq larder_next_syscall(%rip), %rax
  movq (%rax), %rax
  testq %rax, %rax
  jz larder_syscall_early
  jmp *%rax
  .size syscall, .-syscall
)");
#else
__asm__(R"(
  .text
  .globl syscall
  .type syscall, %function
syscall:
  cmp x0, #511
  b.hi 1f
  adrp x9, larder_syscall_bitmap
  add x9, x9, :lo12:larder_syscall_bitmap
  lsr x10, x0, #6
  ldr x9, [x9, x10, lsl #3]
  lsr x9, x9, x0
  tbnz x9, #0, 2f
1:
  adrp x9, larder_next_syscall
  ldr x9, [x9, :lo12:larder_next_syscall]
  ldr x9, [x9]
  cbz x9, 3f
  br x9
2:
  b larder_syscall_ours
3:
  b larder_syscall_early
  .size syscall, .-syscall
)");
#endif
