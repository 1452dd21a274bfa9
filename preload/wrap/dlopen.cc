// dlopen of a library in a dataset, dlsym in libc, and the functions that tell a library's name.
//
// libc resolves a library by its caller's RUNPATH and namespace, which it knows by the return address. So the library
// jumps to libc's function, never calls it, for files outside datasets; those of datasets are loaded by a name of their
// own (library_tree.h).
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <string.h>

#include "preload/base/next.h"
#include "preload/wrap/library_tree.h"
#include "preload/wrap/open.h"

using namespace larder;

extern "C" __attribute__((visibility("hidden"), used)) int larder_dlopen_is_ours(const char* path) {
  if (path == nullptr || strchr(path, '/') == nullptr || current_state() == nullptr) return 0;
  int error = errno;
  int ours = dispatch(
      AT_FDCWD, path, true, [](Found& f) { return f.kind == Kind::kFile ? 1 : 0; }, [](int, const char*) { return 0; });
  errno = error;
  return ours;
}

extern "C" __attribute__((visibility("hidden"), used)) void* larder_dlopen_ours(const char* path, int mode) {
  const NamedLibrary library(path);
  return next.dlopen(library.name() != nullptr ? library.name() : path, mode);  // or its dlerror() says what is wrong
}

extern "C" __attribute__((visibility("hidden"))) decltype(&next.dlopen) const larder_next_dlopen;
__attribute__((used)) decltype(&next.dlopen) const larder_next_dlopen = &next.dlopen;
extern "C" __attribute__((visibility("hidden"), used)) void larder_resolve() {
  resolve_next();
}

#if defined(__x86_64__)
__asm__(R"(
  .text
  .globl dlopen
  .type dlopen, @function
dlopen:
  pushq %rdi
  pushq %rsi
  subq $8, %rsp
  call larder_resolve
  movq 16(%rsp), %rdi
  call larder_dlopen_is_ours
  addq $8, %rsp
  popq %rsi
  popq %rdi
  testl %eax, %eax
  jnz larder_dlopen_ours
  movq larder_next_dlopen(%rip), %rax
  jmp *(%rax)
  .size dlopen, .-dlopen
)");
#else
__asm__(R"(
  .text
  .globl dlopen
  .type dlopen, %function
dlopen:
  stp x29, x30, [sp, #-32]!
  stp x0, x1, [sp, #16]
  bl larder_resolve
  ldr x0, [sp, #16]
  bl larder_dlopen_is_ours
  mov w9, w0
  ldp x0, x1, [sp, #16]
  ldp x29, x30, [sp], #32
  cbnz w9, 1f
  adrp x9, larder_next_dlopen
  ldr x9, [x9, :lo12:larder_next_dlopen]
  ldr x9, [x9]
  br x9
1:
  b larder_dlopen_ours
  .size dlopen, .-dlopen
)");
#endif

// ---- dlsym ----------------------------------------------------------------------------------------------------------
// A function that is looked up in libc itself (ctypes.CDLL("libc.so.6"), JNA) is ours, as it is for who looks in the
// whole program. RTLD_NEXT and RTLD_DEFAULT go by the return address: libc gets them untouched.

extern "C" __attribute__((visibility("hidden"), used)) void* larder_dlsym_in(void* handle, const char* name) {
  resolve_next();
  return wrapper_of(next.dlsym(handle, name), name);
}

extern "C" __attribute__((visibility("hidden"))) decltype(&next.dlsym) const larder_next_dlsym;
__attribute__((used)) decltype(&next.dlsym) const larder_next_dlsym = &next.dlsym;

#if defined(__x86_64__)
__asm__(R"(
  .text
  .globl dlsym
  .type dlsym, @function
dlsym:
  leaq 1(%rdi), %rax
  cmpq $1, %rax
  ja larder_dlsym_in
  movq larder_next_dlsym(%rip), %rax
  cmpq $0, (%rax)
  jne 1f
  pushq %rdi
  pushq %rsi
  subq $8, %rsp
  call larder_resolve
  addq $8, %rsp
  popq %rsi
  popq %rdi
  movq larder_next_dlsym(%rip), %rax
1:
  jmp *(%rax)
  .size dlsym, .-dlsym
)");
#else
__asm__(R"(
  .text
  .globl dlsym
  .type dlsym, %function
dlsym:
  add x9, x0, #1
  cmp x9, #1
  b.hi 2f
  adrp x9, larder_next_dlsym
  ldr x9, [x9, :lo12:larder_next_dlsym]
  ldr x10, [x9]
  cbnz x10, 1f
  stp x29, x30, [sp, #-32]!
  stp x0, x1, [sp, #16]
  bl larder_resolve
  ldp x0, x1, [sp, #16]
  ldp x29, x30, [sp], #32
  adrp x9, larder_next_dlsym
  ldr x9, [x9, :lo12:larder_next_dlsym]
  ldr x10, [x9]
1:
  br x10
2:
  b larder_dlsym_in
  .size dlsym, .-dlsym
)");
#endif

// ---- names ----------------------------------------------------------------------------------------------------------
// A program looks for its files beside its libraries: it is told the path in the mount.

int larder_dladdr(const void* address, Dl_info* info) {
  resolve_next();
  const int found = next.dladdr(address, info);
  if (found != 0) info->dli_fname = mounted_name(info->dli_fname);
  return found;
}
int larder_dladdr1(const void* address, Dl_info* info, void** extra, int flags) {
  resolve_next();
  const int found = next.dladdr1(address, info, extra, flags);
  if (found != 0) info->dli_fname = mounted_name(info->dli_fname);
  return found;
}
int larder_dlinfo(void* handle, int request, void* out) {
  resolve_next();
  const int r = next.dlinfo(handle, request, out);
  if (r != 0 || request != RTLD_DI_ORIGIN) return r;
  char* text = static_cast<char*>(out);
  const char* mounted = mounted_name(text);
  if (mounted != text) memmove(text, mounted, strlen(mounted) + 1);
  return r;
}

namespace {

struct Iteration {
  int (*each)(struct dl_phdr_info*, size_t, void*);
  void* data;
};

int each_mounted(struct dl_phdr_info* info, size_t size, void* data) {
  const auto* it = static_cast<const Iteration*>(data);
  const char* name = info->dlpi_name;
  info->dlpi_name = mounted_name(name);
  const int r = it->each(info, size, it->data);
  info->dlpi_name = name;
  return r;
}

}  // namespace

int larder_dl_iterate_phdr(int (*each)(struct dl_phdr_info*, size_t, void*), void* data) {
  resolve_next();
  if (!any_named()) return next.dl_iterate_phdr(each, data);
  Iteration it{each, data};
  return next.dl_iterate_phdr(each_mounted, &it);
}
