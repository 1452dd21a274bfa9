// A program that filters its own system calls. filtered ACTION FORBIDDEN PATH...: no call of FORBIDDEN
// ("socket,connect") may be made from then on; opens and reads each path, and prints what it got. "exec:" before a
// path: by another program.
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vector>

namespace {

struct Named {
  const char* name;
  int number;
} kCalls[] = {{"socket", SYS_socket},
              {"connect", SYS_connect},
              {"sendmsg", SYS_sendmsg},
              {"fstat", SYS_fstat},
              {"readlinkat", SYS_readlinkat},
              {"getpid", SYS_getpid},
              {"lseek", SYS_lseek},
              {"pread64", SYS_pread64},
              {"rt_sigprocmask", SYS_rt_sigprocmask},
              {"clock_gettime", SYS_clock_gettime},
              {"ppoll", SYS_ppoll},
              {"signalfd4", SYS_signalfd4},
              {"newfstatat", SYS_newfstatat},
              {"fcntl", SYS_fcntl},
              {"nanosleep", SYS_nanosleep}};

void filter(const char* how, const char* names) {
  const unsigned action = strcmp(how, "kill") == 0 ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | ENOSYS;
  std::vector<sock_filter> f = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (const Named& call : kCalls) {
    if (strcmp(names, "all") != 0 && strstr(names, call.name) == nullptr) continue;
    if (strcmp(names, "all") == 0 && call.number == SYS_newfstatat) continue;  // libc's own fstat
    f.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(call.number), 0, 1));
    f.push_back(BPF_STMT(BPF_RET | BPF_K, action));
  }
  f.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog program = {static_cast<unsigned short>(f.size()), f.data()};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  const long r = getenv("FILTERED_BY_SYSCALL") != nullptr ? syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)
                                                          : prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
  if (r != 0) perror("filter");
}

void read_path(const char* path) {
  char text[9] = {};
  const int fd = open(path, O_RDONLY);
  const ssize_t n = fd >= 0 ? read(fd, text, 8) : -1;
  printf("%s: %s %zd %s\n", strrchr(path, '/') + 1, fd >= 0 ? "open" : strerrorname_np(errno), n, n > 0 ? text : "");
  fflush(stdout);
  if (fd >= 0) close(fd);
}

}  // namespace

int main(int argc, char** argv) {
  if (strcmp(argv[1], "none") != 0) filter(argv[1], argv[2]);
  for (int i = 3; i < argc; ++i) {
    if (strncmp(argv[i], "exec:", 5) != 0) {
      read_path(argv[i]);
      continue;
    }
    if (fork() == 0) {
      execl(argv[0], argv[0], "none", "none", argv[i] + 5, nullptr);
      _exit(127);
    }
    int status;
    wait(&status);
    if (status != 0) printf("ended with %d\n", status);
  }
}
