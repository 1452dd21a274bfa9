// seccomp(2), which only syscall() has.
#pragma once
#include "preload/resolve/dispatch.h"

namespace larder {

long call_seccomp(unsigned operation, unsigned flags, void* argument);

}  // namespace larder
