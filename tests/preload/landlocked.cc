// A program that restricts itself with Landlock to reading below some folders. landlocked ALLOWED[,ALLOWED] BEFORE
// AFTER [PROGRAM]: opens BEFORE, restricts itself, reads it and AFTER, then becomes PROGRAM AFTER. "-": none.
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

constexpr unsigned long kRead = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;

int restrict_to(char* folders) {
  landlock_ruleset_attr attr = {};
  attr.handled_access_fs = kRead;
  const int rules = static_cast<int>(syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0));
  if (rules < 0) return 77;
  for (char* folder = strtok(folders, ","); folder != nullptr; folder = strtok(nullptr, ",")) {
    landlock_path_beneath_attr beneath = {};
    beneath.allowed_access = kRead;
    beneath.parent_fd = open(folder, O_PATH | O_CLOEXEC);
    if (syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) != 0) return perror(folder), 1;
    close(beneath.parent_fd);
  }
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  return syscall(SYS_landlock_restrict_self, rules, 0) == 0 ? 0 : 77;
}

void say(const char* what, int fd) {
  char text[9] = {};
  const ssize_t n = fd >= 0 ? pread(fd, text, 8, 0) : -1;
  printf("%s: %s\n", what, n >= 0 ? text : strerrorname_np(errno));
}

}  // namespace

int main(int argc, char** argv) {
  const int before = strcmp(argv[2], "-") != 0 ? open(argv[2], O_RDONLY) : -2;
  if (const int error = restrict_to(argv[1])) return error;
  if (before != -2) say("before", before);
  say("after", open(argv[3], O_RDONLY));
  fflush(stdout);
  if (argc > 4) execl(argv[4], argv[4], argv[3], nullptr);
}
