#include "cached/keeper/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cached/keeper/log.h"
#include "larder/keeper.h"

extern char** environ;

namespace larder::keeper {
namespace {

constexpr int kFirst = 3;  // SD_LISTEN_FDS_START
constexpr int kPassedBesides = 2;
constexpr char kSocketDescriptor[] = "larder-socket";  // cached/home/descriptor_store.h
constexpr size_t kMostEnvironment = 1 << 20;
constexpr int kMostVariables = 4096;

// ---- in the child: it alone touches this memory ---------------------------------------------------------------------

char environment_bytes[kMostEnvironment];
char* environment_texts[kMostVariables];

void load_environment(int fd) {
  const ssize_t n = pread(fd, environment_bytes, sizeof environment_bytes - 1, 0);
  int count = 0;
  for (ssize_t at = 0; at < n && count < kMostVariables - 1;) {
    environment_texts[count++] = environment_bytes + at;
    at += static_cast<ssize_t>(strlen(environment_bytes + at)) + 1;
  }
  environment_texts[count] = nullptr;
  environ = environment_texts;
}

void set_number(const char* name, uint64_t value) {
  char text[24];
  snprintf(text, sizeof text, "%llu", static_cast<unsigned long long>(value));
  setenv(name, text, 1);
}

// Descriptors to 3, 4, …: first out of the way, as they may lie there in another order.
bool place(int* fds, int count) {
  for (int i = 0; i < count; ++i)
    if ((fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, kFirst + count)) < 0) return false;
  for (int i = 0; i < count; ++i)
    if (dup2(fds[i], kFirst + i) < 0) return false;
  return true;
}

bool pass(const Descriptors& passed, int listener, int channel) {
  static char names[(kMostStored + kPassedBesides) * kNameBytes];
  int fds[kMostStored + kPassedBesides];
  int count = 0;
  names[0] = 0;
  for (; count < passed.count(); ++count) {
    fds[count] = passed[count].fd;
    strcat(strcat(names, passed[count].name), ":");
  }
  fds[count++] = listener;
  fds[count++] = channel;
  strcat(strcat(strcat(names, kSocketDescriptor), ":"), kKeeperDescriptor);
  if (!place(fds, count)) return false;
  setenv("LISTEN_FDNAMES", names, 1);
  set_number("LISTEN_FDS", static_cast<uint64_t>(count));
  set_number("LISTEN_PID", static_cast<uint64_t>(getpid()));
  return true;
}

void become(const Launch& launch, const char* notify_address, const History& history, pid_t keeper) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != keeper) _exit(1);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  if (launch.environment >= 0) load_environment(launch.environment);
  if (launch.log >= 0 && (dup2(launch.log, STDOUT_FILENO) < 0 || dup2(launch.log, STDERR_FILENO) < 0)) return;
  setenv("NOTIFY_SOCKET", notify_address, 1);
  set_number(kKeeperPidVariable, static_cast<uint64_t>(keeper));
  set_number(kRestartsVariable, history.restarts);
  if (history.last_end[0] != 0) setenv(kLastEndVariable, history.last_end, 1);
}

// ---- the control group ----------------------------------------------------------------------------------------------

bool read_text(const char* path, char* text, size_t size) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  const ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);
  if (fd >= 0) close(fd);
  text[n > 0 ? n : 0] = 0;
  return n > 0;
}

// The number after "oom_kill " in <root><group>/<file>; false: there is none.
bool read_kills(const char* root, const char* group, const char* file, uint64_t* kills) {
  char path[4096], text[1024];
  snprintf(path, sizeof path, "%s%.*s/%s", root, static_cast<int>(strcspn(group, "\n")), group, file);
  if (!read_text(path, text, sizeof text)) return false;
  const char* found = strstr(text, "oom_kill ");
  if (found == nullptr) return false;
  *kills = strtoull(found + strlen("oom_kill "), nullptr, 10);
  return true;
}

}  // namespace

pid_t start_child(const Launch& launch, const Descriptors& passed, int listener, int channel,
                  const char* notify_address, const History& history) {
  const pid_t keeper = getpid();
  const pid_t child = fork();
  if (child < 0) log("error", "larderd cannot be started: %s", strerror(errno));
  if (child != 0) return child;
  become(launch, notify_address, history, keeper);
  if (pass(passed, listener, channel)) execvp(launch.argv[0], launch.argv);
  log("error", "cannot start '%s': %s", launch.argv[0], strerror(errno));
  _exit(127);
}

uint64_t oom_kills() {
  char groups[4096];
  uint64_t kills = 0;
  if (!read_text("/proc/self/cgroup", groups, sizeof groups)) return 0;
  for (const char* line = groups; line != nullptr && *line != 0; line = strchr(line, '\n')) {
    if (*line == '\n') ++line;
    const char* controllers = strchr(line, ':');
    const char* group = controllers != nullptr ? strchr(controllers + 1, ':') : nullptr;
    if (group == nullptr) break;
    if (group == controllers + 1 && read_kills("/sys/fs/cgroup", group + 1, "memory.events", &kills)) return kills;
    if (strncmp(controllers, ":memory:", 8) == 0 &&
        (read_kills("/sys/fs/cgroup/memory", group + 1, "memory.oom_control", &kills) ||
         read_kills("/sys/fs/cgroup/memory", "", "memory.oom_control", &kills)))  // seen from inside a container
      return kills;
  }
  return 0;
}

void describe_end(int status, bool out_of_memory, char* text, size_t size) {
  if (WIFSIGNALED(status))
    snprintf(text, size, "was killed by signal %d (%s)%s", WTERMSIG(status), strsignal(WTERMSIG(status)),
             out_of_memory ? ", out of memory" : "");
  else
    snprintf(text, size, "ended with status %d", WEXITSTATUS(status));
}

}  // namespace larder::keeper
