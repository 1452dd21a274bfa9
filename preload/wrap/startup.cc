// The library's constructor: what happens before main().
#include "preload/resolve/state.h"
#include "preload/wrap/read.h"

namespace larder {
namespace {

__attribute__((constructor)) void start() {
  start_process();
  replace_stdin();
}

}  // namespace
}  // namespace larder
