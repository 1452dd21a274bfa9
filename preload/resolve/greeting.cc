#include "preload/resolve/greeting.h"

#include <string.h>

#include "preload/base/sys.h"
#include "preload/resolve/daemon_client.h"

namespace larder {
namespace {

constexpr int kGreetPatienceMs = 2'000;
constinit char cache_path[512] = {};  // LARDER_CACHE

bool ask_daemon(Greeting* g) {
  Request request = {};
  request.magic = kWireMagic;
  request.version = kWireVersion;
  request.op = Op::kHello;
  Reply reply;
  int error = exchange(request, nullptr, &reply, g->fds, kMaxHelloFds, &g->count, sys::now_ms() + kGreetPatienceMs);
  if (error == 0 && reply.status == 0 && g->count >= 2) {
    g->root = g->fds[0];
    g->generation = reply.generation;
    return true;
  }
  close_greeting(g);
  return false;
}

// The daemon is down, but its cache directory is known and visible: cached files stay readable.
bool attach_by_path(Greeting* g) {
  if (cache_path[0] == 0) return false;
  int fd = sys::openat(AT_FDCWD, cache_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return false;
  g->fds[0] = g->root = fd;
  g->count = 1;
  g->generation = 0;
  return true;
}

}  // namespace

void configure_cache(const char* path) {
  if (path != nullptr && path[0] == '/' && strlen(path) < sizeof(cache_path))
    memcpy(cache_path, path, strlen(path) + 1);
}

bool greet(Greeting* g) {
  return ask_daemon(g) || attach_by_path(g);
}

void close_greeting(Greeting* g) {
  for (int i = 0; i < g->count; ++i)
    sys::close(g->fds[i]);
  g->count = 0;
}

int park(int fd) {
  int parked = -1;
  for (int from : {512, 128, 32}) {
    parked = sys::fcntl(fd, F_DUPFD_CLOEXEC, from);
    if (parked >= 0) break;
  }
  return parked >= 0 ? parked : sys::fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

}  // namespace larder
