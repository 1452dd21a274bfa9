#include "preload/base/next.h"

#include <dlfcn.h>
#include <string.h>

// dlvsym moved to libc.so in 2.34 under a new version; the old one exists everywhere. It leads to libc's dlsym, which
// the library intercepts (preload/wrap/dlopen.cc): a name alone would be our own.
#if defined(__x86_64__)
#define LARDER_OLDEST "GLIBC_2.2.5"
#else
#define LARDER_OLDEST "GLIBC_2.17"
#endif
__asm__(".symver larder_dlvsym, dlvsym@" LARDER_OLDEST);
extern "C" void* larder_dlvsym(void* handle, const char* name, const char* version);

namespace larder {

alignas(64) constinit Next next = {};

namespace {
constinit bool resolved = false;

using Dlsym = void* (*)(void*, const char*);
Dlsym libc_dlsym() {
  return reinterpret_cast<Dlsym>(larder_dlvsym(RTLD_NEXT, "dlsym", LARDER_OLDEST));
}
}  // namespace

void resolve_next() {
  if (__atomic_load_n(&resolved, __ATOMIC_ACQUIRE)) return;
  const Dlsym find = libc_dlsym();
  // Racing callers store the same values.
#define SYM(ret, name, params) \
  __atomic_store_n(&next.name, reinterpret_cast<ret(*) params>(find(RTLD_NEXT, #name)), __ATOMIC_RELAXED);
#include "preload/base/symbols.def"
#undef SYM
  __atomic_store_n(&resolved, true, __ATOMIC_RELEASE);
}

void* program_symbol(const char* name) {
  return libc_dlsym()(RTLD_DEFAULT, name);
}

// A listed function without a definition does not link.
__attribute__((used)) void* const kEveryWrapper[] = {
#define SYM(ret, name, params) reinterpret_cast<void*>(&larder_##name),
#include "preload/base/symbols.def"
#undef SYM
};
static_assert(sizeof(Next) == sizeof(kEveryWrapper));

namespace {
constexpr const char* kEveryName[] = {
#define SYM(ret, name, params) #name,
#include "preload/base/symbols.def"
#undef SYM
};
}  // namespace

void* wrapper_of(void* function, const char* name) {
  void* const* each = reinterpret_cast<void* const*>(&next);
  void* found = function;
  for (size_t i = 0; function != nullptr && i < sizeof(kEveryWrapper) / sizeof(kEveryWrapper[0]); ++i) {
    if (each[i] != function) continue;
    if (strcmp(kEveryName[i], name) == 0) return kEveryWrapper[i];
    if (found == function) found = kEveryWrapper[i];
  }
  return found;
}

}  // namespace larder
