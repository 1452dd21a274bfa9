// syscall(2) as a function: libuv, Rust crates and others make some calls that way. Intercepted calls go through the
// wrappers; every other number jumps to the next definition untouched (some calls, such as clone, must not find a frame
// of this library).
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <iterator>
#include <type_traits>
#include <utility>

#include "preload/base/next.h"
#include "preload/base/sys.h"
#include "preload/wrap/directory_stream.h"
#include "preload/wrap/filter.h"
#include "preload/wrap/landlock.h"
#include "preload/wrap/open.h"

#ifndef SYS_landlock_add_rule
#define SYS_landlock_add_rule 445
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif

namespace larder {
namespace {

// The arguments of a call, as registers have them.
using Args = const long (&)[6];

template <typename T>
T argument(long value) {
  if constexpr (std::is_pointer_v<T>)
    return reinterpret_cast<T>(value);
  else
    return static_cast<T>(value);
}

template <typename R, typename... P, size_t... I>
long call_with(R (*wrapper)(P...), Args args, std::index_sequence<I...>) {
  return static_cast<long>(wrapper(argument<P>(args[I])...));
}

template <typename R, typename... P>
long call_all(R (*wrapper)(P...), Args args) {
  return call_with(wrapper, args, std::index_sequence_for<P...>{});
}

// A wrapper whose parameters are those of the system call.
template <auto kWrapper>
long call(Args args) {
  return call_all(kWrapper, args);
}

// ---- wrappers whose parameters differ -------------------------------------------------------------------------------

#if defined(__x86_64__)
long call_open(const char* path, int flags, mode_t mode) {
  return larder_open(path, flags, mode);
}
#endif
long call_openat(int dirfd, const char* path, int flags, mode_t mode) {
  return larder_openat(dirfd, path, flags, mode);
}
long call_faccessat(int dirfd, const char* path, int mode) {
  return larder_faccessat(dirfd, path, mode, 0);
}
long call_fchmodat(int dirfd, const char* path, mode_t mode) {
  return larder_fchmodat(dirfd, path, mode, 0);
}
long call_copy_file_range(int in, off64_t* in_offset, int out, off64_t* out_offset, size_t size) {
  return larder_copy_file_range(in, in_offset, out, out_offset, size, 0);
}
long call_fcntl(int fd, int cmd, void* arg) {
  return larder_fcntl(fd, cmd, arg);
}
long call_ioctl(int fd, unsigned long request, void* arg) {
  return larder_ioctl(fd, request, arg);
}
long call_prctl(int option, long a, long b, long c, long d) {
  return larder_prctl(option, a, b, c, d);
}
long call_getcwd(char* out, size_t size) {
  if (larder_getcwd(out, size) == nullptr) return -1;
  return static_cast<long>(strlen(out)) + 1;
}

// ---- the table ------------------------------------------------------------------------------------------------------

struct Call {
  long number;
  long (*run)(Args args);
};

constexpr Call kOurs[] = {
    {SYS_openat, call<call_openat>},
    {SYS_newfstatat, call<larder_fstatat>},
    {SYS_statx, call<larder_statx>},
    {SYS_fstat, call<larder_fstat>},
    {SYS_readlinkat, call<larder_readlinkat>},
    {SYS_faccessat, call<call_faccessat>},
    {SYS_getdents64, call<larder_getdents64>},
    {SYS_chdir, call<larder_chdir>},
    {SYS_fchdir, call<larder_fchdir>},
    {SYS_unlinkat, call<larder_unlinkat>},
    {SYS_mkdirat, call<larder_mkdirat>},
    {SYS_renameat2, call<larder_renameat2>},
    {SYS_linkat, call<larder_linkat>},
    {SYS_symlinkat, call<larder_symlinkat>},
    {SYS_mknodat, call<larder_mknodat>},
    {SYS_truncate, call<larder_truncate>},
    {SYS_fchmodat, call<call_fchmodat>},
    {SYS_fchownat, call<larder_fchownat>},
    {SYS_utimensat, call<larder_utimensat>},
    {SYS_statfs, call<larder_statfs>},
    {SYS_fstatfs, call<larder_fstatfs>},
    {SYS_getcwd, call<call_getcwd>},
    {SYS_fchmod, call<larder_fchmod>},
    {SYS_fchown, call<larder_fchown>},
    {SYS_openat2, call<open_how_any>},
    {SYS_read, call<larder_read>},
    {SYS_pread64, call<larder_pread64>},
    {SYS_readv, call<larder_readv>},
    {SYS_preadv, call<larder_preadv64>},
    {SYS_lseek, call<larder_lseek64>},
    {SYS_seccomp, call<call_seccomp>},
    {SYS_landlock_add_rule, call<call_landlock_add_rule>},
    {SYS_prctl, call<call_prctl>},
    {SYS_write, call<larder_write>},
    {SYS_pwrite64, call<larder_pwrite64>},
    {SYS_writev, call<larder_writev>},
    {SYS_pwritev, call<larder_pwritev64>},
    {SYS_sendto, call<larder_sendto>},
    {SYS_sendmsg, call<larder_sendmsg>},
    {SYS_sendmmsg, call<larder_sendmmsg>},
    {SYS_vmsplice, call<larder_vmsplice>},
    {SYS_process_vm_readv, call<larder_process_vm_readv>},
    {SYS_process_vm_writev, call<larder_process_vm_writev>},
    {SYS_mlock, call<larder_mlock>},
    {SYS_sendfile, call<larder_sendfile64>},
    {SYS_copy_file_range, call<call_copy_file_range>},
    {SYS_readahead, call<larder_readahead>},
    {SYS_getxattr, call<larder_getxattr>},
    {SYS_lgetxattr, call<larder_lgetxattr>},
    {SYS_fgetxattr, call<larder_fgetxattr>},
    {SYS_listxattr, call<larder_listxattr>},
    {SYS_llistxattr, call<larder_llistxattr>},
    {SYS_flistxattr, call<larder_flistxattr>},
    {SYS_setxattr, call<larder_setxattr>},
    {SYS_lsetxattr, call<larder_lsetxattr>},
    {SYS_fsetxattr, call<larder_fsetxattr>},
    {SYS_removexattr, call<larder_removexattr>},
    {SYS_lremovexattr, call<larder_lremovexattr>},
    {SYS_fremovexattr, call<larder_fremovexattr>},
    {SYS_inotify_add_watch, call<larder_inotify_add_watch>},
    {SYS_name_to_handle_at, call<larder_name_to_handle_at>},
    {SYS_chroot, call<larder_chroot>},
    {SYS_execve, call<larder_execve>},
    {SYS_execveat, call<larder_execveat>},
    {SYS_ioctl, call<call_ioctl>},
    {SYS_fcntl, call<call_fcntl>},
    {SYS_dup3, call<larder_dup3>},
#if defined(SYS_faccessat2)
    {SYS_faccessat2, call<larder_faccessat>},
#endif
#if defined(__x86_64__)
    {SYS_mknod, call<larder_mknod>},
    {SYS_lchown, call<larder_lchown>},
    {SYS_utime, call<larder_utime>},
    {SYS_utimes, call<larder_utimes>},
    {SYS_futimesat, call<larder_futimesat>},
    {SYS_open, call<call_open>},
    {SYS_stat, call<larder_stat>},
    {SYS_lstat, call<larder_lstat>},
    {SYS_access, call<larder_access>},
    {SYS_readlink, call<larder_readlink>},
    {SYS_unlink, call<larder_unlink>},
    {SYS_mkdir, call<larder_mkdir>},
    {SYS_rmdir, call<larder_rmdir>},
    {SYS_rename, call<larder_rename>},
    {SYS_renameat, call<larder_renameat>},
    {SYS_link, call<larder_link>},
    {SYS_symlink, call<larder_symlink>},
    {SYS_chmod, call<larder_chmod>},
    {SYS_chown, call<larder_chown>},
    {SYS_creat, call<larder_creat>},
    {SYS_getdents, call<old_getdents>},
#endif
};

// Which entry of kOurs a number has, one more than its index; 0: not ours.
struct Places {
  uint8_t of[512] = {};
  constexpr Places() {
    for (size_t i = 0; i < std::size(kOurs); ++i)
      of[kOurs[i].number] = static_cast<uint8_t>(i + 1);
  }
};
constexpr Places kPlaces;

struct Bitmap {
  uint64_t words[8] = {};
  constexpr Bitmap() {
    for (const Call& call : kOurs)
      words[call.number / 64] |= 1ULL << (call.number % 64);
  }
};

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
  const auto* path = reinterpret_cast<const char*>(a);
  Scratch<Found> f;
  return f && maybe_ours(AT_FDCWD, path) && route(AT_FDCWD, path, f.get());
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

// Only numbers of kOurs: the assembly below has looked at the bitmap.
__attribute__((visibility("hidden"), used)) long larder_syscall_ours(long n, long a, long b, long c, long d, long e,
                                                                     long f) {
  if (attribute_call(n) && !attributes_are_ours(n, a)) return larder_syscall_early(n, a, b, c, d, e, f);
  return kOurs[kPlaces.of[n] - 1].run({a, b, c, d, e, f});
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
