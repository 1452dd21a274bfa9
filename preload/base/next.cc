#include "preload/base/next.h"

#include <dlfcn.h>

// dlsym moved to libc.so in 2.34 under a new version; the old one exists everywhere.
#if defined(__x86_64__)
__asm__(".symver larder_dlsym, dlsym@GLIBC_2.2.5");
#else
__asm__(".symver larder_dlsym, dlsym@GLIBC_2.17");
#endif
extern "C" void* larder_dlsym(void* handle, const char* name);

namespace larder {

alignas(64) constinit Next next = {};

namespace {
constinit bool resolved = false;
}

void resolve_next() {
  if (__atomic_load_n(&resolved, __ATOMIC_ACQUIRE)) return;
    // Racing callers store the same values.
#define SYM(ret, name, params) \
  __atomic_store_n(&next.name, reinterpret_cast<ret(*) params>(larder_dlsym(RTLD_NEXT, #name)), __ATOMIC_RELAXED);
#include "preload/base/symbols.def"
#undef SYM
  __atomic_store_n(&resolved, true, __ATOMIC_RELEASE);
}

void* program_symbol(const char* name) {
  return larder_dlsym(RTLD_DEFAULT, name);
}

// A listed function without a definition does not link.
__attribute__((used)) const void* const kEveryWrapper[] = {
#define SYM(ret, name, params) reinterpret_cast<const void*>(&larder_##name),
#include "preload/base/symbols.def"
#undef SYM
};

}  // namespace larder
