// A program that leaves a waiting call by siglongjmp, or that changes what it may do between open and read.
//   interrupted jump PID LARGE SMALL   PID is larderd's: stopped while the calls wait. One line a call: what it moved
//   and left open interrupted limit|root|user LARGE  reads a byte that is there, then one that is not
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

namespace {

sigjmp_buf out;
char buffer[4096], more[4096];
int file, sink, daemon_pid;
const char *large, *small;

void leave(int) {
  siglongjmp(out, 1);
}

int open_descriptors() {
  int n = 0;
  DIR* dir = opendir("/proc/self/fd");
  while (readdir(dir) != nullptr)
    ++n;
  closedir(dir);
  return n;
}

int mappings() {
  FILE* maps = fopen("/proc/self/maps", "r");
  int lines = 0;
  for (int c; (c = fgetc(maps)) != EOF;)
    lines += c == '\n';
  fclose(maps);
  return lines;
}

// Calls `wait` while larderd is stopped, and jumps out of it.
template <typename Wait>
void jump(const char* name, long position, Wait wait) {
  lseek(file, position, SEEK_SET);
  const int descriptors = open_descriptors(), maps = mappings();
  kill(daemon_pid, SIGSTOP);
  const struct itimerval soon = {{0, 20000}, {0, 100000}}, never = {};  // again, if the first came too early
  bool jumped = true;
  if (sigsetjmp(out, 1) == 0) {
    setitimer(ITIMER_REAL, &soon, nullptr);
    wait();
    jumped = false;
  }
  setitimer(ITIMER_REAL, &never, nullptr);
  kill(daemon_pid, SIGCONT);
  const long moved = static_cast<long>(lseek(file, 0, SEEK_CUR)) - position;
  printf("%s: %s, moved %ld, descriptors %d, mappings %d\n", name, jumped ? "jumped" : "returned", moved,
         open_descriptors() - descriptors, mappings() - maps);
}

int jumps() {
  constexpr long kStep = 4 << 20;  // downwards, and far from the start: nothing is read ahead
  file = open(large, O_RDONLY);
  sink = open("/dev/null", O_WRONLY);
  if (file < 0 || read(file, buffer, 1) + read(file, buffer, 1) != 2) return perror(large), 1;
  signal(SIGALRM, leave);
  jump("read", 15 * kStep, [] { (void)!read(file, buffer, sizeof(buffer)); });
  jump("small reads", 14 * kStep, [] { (void)!(read(file, buffer, 100) + read(file, buffer, 100)); });
  const struct iovec parts[2] = {{buffer, sizeof(buffer)}, {more, sizeof(more)}};
  jump("readv", 13 * kStep, [&] { (void)!readv(file, parts, 2); });
  jump("pread", 12 * kStep, [] { (void)!pread(file, buffer, sizeof(buffer), 12 * kStep); });
  jump("sendfile", 11 * kStep, [] { (void)!sendfile(sink, file, nullptr, sizeof(buffer)); });
  jump("open", 0, [] { (void)!open(small, O_RDONLY); });
  jump("fopen", 0, [] { (void)!fopen(small, "r"); });
  return 0;
}

// What one byte is, or the errno.
void say_byte(const char* name, long offset) {
  char c;
  const ssize_t n = pread(file, &c, 1, offset);
  if (n == 1)
    printf("%s: %d\n", name, static_cast<unsigned char>(c));
  else
    printf("%s: %s\n", name, n == 0 ? "end" : strerrorname_np(errno));
}

int restricted(const char* how) {
  setvbuf(stdout, nullptr, _IOFBF, 4096);
  file = open(large, O_RDONLY);
  if (file < 0) return perror(large), 1;
  const struct rlimit none = {0, 0};
  const bool limit = strcmp(how, "limit") == 0, root = strcmp(how, "root") == 0;
  const int r = limit ? setrlimit(RLIMIT_NOFILE, &none) : root ? chroot("/proc/self/fdinfo") : setuid(65534);
  if (r != 0) return perror(how), 1;
  say_byte("there", 0);
  say_byte("not there", 24 << 20);
  return 0;
}

}  // namespace

int main(int, char** argv) {
  if (strcmp(argv[1], "jump") != 0) return large = argv[2], restricted(argv[1]);
  daemon_pid = atoi(argv[2]);
  large = argv[3];
  small = argv[4];
  return jumps();
}
