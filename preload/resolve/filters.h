// The filters that a program puts on its own system calls (seccomp): which calls of the library's they may end the
// program for. Such a call is then not made, but -EPERM (preload/base/sys.h).
//
// Whoever installs a filter does it through libc, so the wrappers see its program. They greet larderd before, since
// that may be forbidden afterwards. What a process started with is not known: its calls are made.
#pragma once
#include <linux/filter.h>
#include <stdint.h>

namespace larder {

// The calls that one filter may end the program for; of SECCOMP_MODE_STRICT: all but four.
struct FilterVerdict {
  uint64_t forbidden[8] = {};
  bool any() const;
};
FilterVerdict judge_filter(const sock_fprog& program);
FilterVerdict judge_strict();

// The filter is in force, beside those before. `every_thread`: the library's own as well (SECCOMP_FILTER_FLAG_TSYNC).
// Programs that this one starts are told in their environment, LARDER_FORBIDDEN.
void obey_filter(const FilterVerdict& verdict, bool every_thread);

// LARDER_FORBIDDEN, from the program that started this one. Called once, by the constructor; null: not set.
void inherit_filters(const char* text);

}  // namespace larder
