// The next definition of every intercepted function (libc's, or another preload's), and the prototypes of ours.
//
// next.name is null until the constructor has run (or for ever, if libc has no such function). A wrapper of a system
// call then makes the call itself (allocators call open and readlink while they start); a wrapper of a libc function
// calls resolve_next() first.
#pragma once
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <fts.h>
#include <ftw.h>
#include <glob.h>
#include <link.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <utime.h>
#include <wchar.h>

struct open_how;  // linux/openat2.h

namespace larder {

struct Next {
#define SYM(ret, name, params) ret(*name) params;
#include "preload/base/symbols.def"
#undef SYM
};
extern Next next;

// Resolves all pointers, once. It does not allocate itself (dlsym of old glibcs may).
void resolve_next();

// The wrapper whose next definition this function is, of those with that name if several are one in libc (open,
// open64); every other function as it is.
void* wrapper_of(void* function, const char* name);

// A variable or function as the program sees it, or null.
void* program_symbol(const char* name);

}  // namespace larder

// Ours: C++ name larder_open, symbol open. The asm label keeps them apart from libc's declarations and attributes.
extern "C" {
#define SYM(ret, name, params) __attribute__((visibility("default"))) ret larder_##name params __asm__(#name);
#include "preload/base/symbols.def"
#undef SYM
}
