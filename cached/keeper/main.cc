// larder-keeper --socket PATH [--private] -- LARDERD [ARGUMENT]...
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "cached/keeper/keeper.h"

namespace {

constexpr char kUsage[] =
    "Usage: larder-keeper --socket PATH [--private] -- LARDERD [ARGUMENT]...\n"
    "\n"
    "Listens at PATH, starts larderd and starts it again when it dies, keeps the cache's descriptors, and answers\n"
    "programs that start meanwhile. `larder run --mount` and the systemd unit start it.\n"
    "\n"
    "  --socket PATH   the socket; larderd's configuration names the same\n"
    "  --private       for this user alone: the socket's folder is 0700\n";

int misused(const char* why) {
  fprintf(stderr, "larder-keeper: %s; larder-keeper --help tells more\n", why);
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  larder::keeper::Options options;
  int i = 1;
  for (; i < argc && strcmp(argv[i], "--") != 0; ++i) {
    if (strcmp(argv[i], "--help") == 0) return fputs(kUsage, stdout) < 0;
    if (strcmp(argv[i], "--private") == 0)
      options.is_private = true;
    else if (strcmp(argv[i], "--socket") == 0 && i + 1 < argc)
      options.socket = argv[++i];
    else
      return misused("an unknown option");
  }
  if (options.socket == nullptr) return misused("--socket PATH is missing");
  if (i + 1 >= argc) return misused("no larderd is given after --");
  options.command = argv + i + 1;
  prctl(PR_SET_DUMPABLE, 0);  // credentials are in its environment
  static larder::keeper::Keeper keeper(options);
  return keeper.run();
}
