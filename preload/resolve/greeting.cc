#include "preload/resolve/greeting.h"

#include <errno.h>
#include <string.h>

#include "preload/base/sys.h"
#include "preload/resolve/daemon_client.h"

namespace larder {
namespace {

constexpr int kGreetPatienceMs = 2'000;

}  // namespace

int greet(Greeting* g) {
  Request request = {};
  request.magic = kWireMagic;
  request.version = kWireVersion;
  request.op = Op::kHello;
  Reply reply;
  int error = exchange(request, nullptr, &reply, g->fds, kMaxHelloFds, &g->count, sys::now_ms() + kGreetPatienceMs);
  if (error == 0 && reply.status == 0 && g->count >= 2) {
    g->root = g->fds[0];
    g->generation = reply.generation;
    return 0;
  }
  close_greeting(g);
  return error != 0 ? error : EIO;
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
