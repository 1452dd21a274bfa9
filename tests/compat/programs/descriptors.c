// What happens to descriptors: dup, dup2, dup3, fcntl, close in every way, high numbers, low limits, fork, threads, signals, SCM_RIGHTS.
// descriptors PART DATASET-FOLDER; prints one line a check.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char root[4096];

static const char* in(const char* name) {
  static __thread char text[4][5000];
  static __thread unsigned next;
  char* t = text[next++ % 4];
  snprintf(t, sizeof(text[0]), "%s/%s", root, name);
  return t;
}

static uint64_t sum_fd(int fd) {
  unsigned char b[65536];
  uint64_t h = 1469598103934665603ULL;
  for (ssize_t n; (n = pread(fd, b, sizeof(b), 0)) > 0;) {
    off_t at = 0;
    do {
      for (ssize_t i = 0; i < n; ++i) h = (h ^ b[i]) * 1099511628211ULL;
      at += n;
    } while ((n = pread(fd, b, sizeof(b), at)) > 0);
    return h;
  }
  return h;
}

static uint64_t sum_path(const char* path) {
  int fd = open(path, O_RDONLY);
  if (fd < 0) return (uint64_t)errno;
  uint64_t h = sum_fd(fd);
  close(fd);
  return h;
}

static void say(const char* what, uint64_t value) { printf("%s %llx\n", what, (unsigned long long)value); }

static void duplicates(void) {
  int fd = open(in("sizes/00110000.bin"), O_RDONLY);
  say("open", sum_fd(fd));
  int a = dup(fd), b = dup2(fd, 1500), c = dup3(fd, 77, O_CLOEXEC), d = fcntl(fd, F_DUPFD, 1100), e = fcntl(fd, F_DUPFD_CLOEXEC, 20);
  close(fd);
  int all[] = {a, b, c, d, e};
  struct stat first, st;
  fstat(a, &first);
  for (int i = 0; i < 5; ++i) say("dup", sum_fd(all[i]) + (fstat(all[i], &st) == 0 && memcmp(&st, &first, sizeof(st)) == 0));
  char x[100];
  read(a, x, 100);
  say("shared offset", (uint64_t)lseek(d, 0, SEEK_CUR));
  dup2(open(in("text/00.txt"), O_RDONLY), b);
  say("replaced", sum_fd(b) != sum_fd(a));
  struct stat p;
  stat(in("text/00.txt"), &p), fstat(b, &st);
  say("follows", p.st_ino == st.st_ino && p.st_size == st.st_size && p.st_dev == st.st_dev);
}

static void high_numbers(void) {
  int last = -1;
  for (int i = 0; i < 1500; ++i) last = open(in(i % 2 ? "text/01.txt" : "images/n00/img_0000.JPEG"), O_RDONLY);
  say("above 1024", last > 1024);
  say("reads", sum_fd(last) + sum_fd(last - 1) * 3);
  DIR* d = opendir(in("images"));
  int n = 0;
  while (readdir(d)) ++n;
  say("directory", n + (dirfd(d) > 1024));
  int folder = open(in("images"), O_RDONLY | O_DIRECTORY);
  say("openat", (uint64_t)(openat(folder, "n01/img_0001.JPEG", O_RDONLY) > 1024));
}

static void low_limit(void) {
  struct rlimit r = {64, 64};
  setrlimit(RLIMIT_NOFILE, &r);
  int n = 0;
  char name[64];
  for (;; ++n) {
    snprintf(name, sizeof(name), "images/n%02d/img_%04d.JPEG", n % 6, n);
    if (open(in(name), O_RDONLY) < 0) break;
  }
  say("opened", n);
  say("errno", errno);
  struct stat st;
  say("stat still works", stat(in("text/19.txt"), &st) == 0 ? st.st_size : errno);
  say("fopen", fopen(in("text/19.txt"), "r") == NULL ? errno : 0);
  say("opendir", access(in("text"), R_OK));
  close(63), close(62), close(61), close(60);
  say("again", sum_path(in("text/18.txt")));
}

static void huge_limit(void) {
  struct rlimit r;
  getrlimit(RLIMIT_NOFILE, &r);
  r.rlim_cur = r.rlim_max < 1000000 ? r.rlim_max : 1000000;
  setrlimit(RLIMIT_NOFILE, &r);
  int fd = fcntl(open(in("text/02.txt"), O_RDONLY), F_DUPFD, (int)r.rlim_cur - 10);
  say("top", sum_fd(fd));
  say("child", (uint64_t)system("exec true"));
}

static void close_everything(void) {
  say("warm", sum_path(in("text/03.txt")));
  for (int fd = 3; fd < 2000; ++fd) close(fd);
  say("after a loop", sum_path(in("text/03.txt")));
  say("cold after a loop", sum_path(in("text/04.txt")));
  syscall(SYS_close_range, 3, ~0u, 0);
  say("after close_range", sum_path(in("text/03.txt")));
  say("cold after close_range", sum_path(in("text/05.txt")));
  closefrom(3);
  say("after closefrom", sum_path(in("text/06.txt")));
  for (int fd = 3; fd < 2000; ++fd) syscall(SYS_close, fd);
  say("after raw closes", sum_path(in("text/07.txt")));
  // Somebody else's descriptor under every number that was ever ours.
  int null = open("/dev/null", O_RDONLY);
  for (int fd = 3; fd < 1000; ++fd) dup2(null, fd);
  say("under others' numbers", sum_path(in("text/03.txt")) + sum_path(in("text/08.txt")));
  struct stat st;
  int good = 0;
  for (int fd = 3; fd < 1000; ++fd) good += fstat(fd, &st) == 0 && S_ISCHR(st.st_mode);
  say("theirs are untouched", good >= 996);
  close(0), close(1 + 1);
  int low = open(in("text/03.txt"), O_RDONLY);
  say("lowest number", low);
}

// Started with 0, 1 and 2 closed, as daemons are: what it opens first gets those numbers, and nothing of the library's is there.
static void closed_standard(const char* report) {
  char text[2000] = "";
  size_t n = 0;
  for (int fd = 0; fd < 3; ++fd) n += (size_t)snprintf(text + n, sizeof(text) - n, "before %d\n", fcntl(fd, F_GETFD) >= 0);
  struct stat st;
  n += (size_t)snprintf(text + n, sizeof(text) - n, "stat %d\n", stat(in("text/00.txt"), &st));
  DIR* d = opendir(in("text"));
  int names = 0;
  while (readdir(d)) ++names;
  n += (size_t)snprintf(text + n, sizeof(text) - n, "names %d closed %d\n", names, closedir(d));
  for (int i = 0; i < 4; ++i) {
    char name[64];
    snprintf(name, sizeof(name), "text/%02d.txt", i);
    int fd = open(in(name), O_RDONLY);
    n += (size_t)snprintf(text + n, sizeof(text) - n, "fd %d %llx\n", fd, (unsigned long long)sum_fd(fd));
  }
  int missing = open(in("none"), O_RDONLY);
  n += (size_t)snprintf(text + n, sizeof(text) - n, "missing %d %d\n", missing, errno);
  FILE* f = fopen(in("text/05.txt"), "r");
  n += (size_t)snprintf(text + n, sizeof(text) - n, "stream %d\n", f ? fileno(f) : -1);
  int out = open(report, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (write(out, text, n) != (ssize_t)n) _exit(4);
}

static void send_over_socket(void) {
  int pair[2];
  socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
  int fd = open(in("sizes/01048577.bin"), O_RDONLY), folder = open(in("text"), O_RDONLY | O_DIRECTORY);
  pid_t child = fork();
  if (child == 0) {
    // A bare process: no preload. It gets the descriptors as its own.
    char number[16];
    snprintf(number, sizeof(number), "%d", pair[1]);
    unsetenv("LD_PRELOAD");
    execl("/proc/self/exe", "descriptors", "receive", number, (char*)NULL);
    _exit(99);
  }
  int fds[2] = {fd, folder};
  char byte = 0, control[CMSG_SPACE(sizeof(fds))] = {0};
  struct iovec iov = {&byte, 1};
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
  struct cmsghdr* c = CMSG_FIRSTHDR(&m);
  c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(fds));
  memcpy(CMSG_DATA(c), fds, sizeof(fds));
  fflush(stdout);
  sendmsg(pair[0], &m, 0);
  int status;
  waitpid(child, &status, 0);
  say("status", status);
}

static void receive(int socket) {
  int fds[2];
  char byte, control[CMSG_SPACE(sizeof(fds))];
  struct iovec iov = {&byte, 1};
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
  recvmsg(socket, &m, 0);
  memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fds));
  struct stat st;
  fstat(fds[0], &st);
  say("received", sum_fd(fds[0]) + (uint64_t)st.st_size);
  void* p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fds[0], 0);
  say("mapped", ((unsigned char*)p)[1000000]);
  say("writes", (uint64_t)(write(fds[0], "x", 1) < 0) + (uint64_t)(ftruncate(fds[0], 0) < 0));
}

// ---- threads --------------------------------------------------------------------------------------------------------

static uint64_t expected[120];
static int wrong;

static void* reader(void* seed) {
  unsigned s = (unsigned)(uintptr_t)seed;
  for (int i = 0; i < 120; ++i) {
    int k = (int)(rand_r(&s) % 120);
    char name[64];
    snprintf(name, sizeof(name), "images/n%02d/img_%04d.JPEG", k % 6, k);
    if (sum_path(in(name)) != expected[k]) __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
    struct stat st;
    if (stat(in(name), &st) != 0 || st.st_size != 3000 + 137 * k) __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
    if (i % 16 == 0) {
      DIR* d = opendir(in("images/n00"));
      int n = 0;
      while (d && readdir(d)) ++n;
      if (!d || closedir(d) != 0 || n != 22) __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
    }
  }
  return NULL;
}

static void load_expected(const char* file) {
  FILE* f = fopen(file, "r");
  for (int i = 0; f && i < 120; ++i) {
    unsigned long long v = 0;
    if (fscanf(f, "%llx", &v) != 1) break;
    expected[i] = v;
  }
}

static void threads(const char* file) {
  load_expected(file);
  pthread_t t[64];
  for (uintptr_t i = 0; i < 64; ++i) pthread_create(&t[i], NULL, reader, (void*)(i + 1));
  for (int i = 0; i < 64; ++i) pthread_join(t[i], NULL);
  say("wrong", (uint64_t)wrong);
}

// DataLoader workers start so: a fork while other threads are inside the library.
static void forks(const char* file) {
  load_expected(file);
  pthread_t t[8];
  for (uintptr_t i = 0; i < 8; ++i) pthread_create(&t[i], NULL, reader, (void*)(i + 1));
  int bad = 0;
  pid_t children[40];
  for (int i = 0; i < 40; ++i) {
    children[i] = fork();
    if (children[i] == 0) {
      alarm(60);
      wrong = 0;
      reader((void*)(uintptr_t)(i + 100));
      _exit(wrong != 0);
    }
  }
  for (int i = 0; i < 40; ++i) {
    int status = 1;
    waitpid(children[i], &status, 0);
    bad += status != 0;
  }
  for (int i = 0; i < 8; ++i) pthread_join(t[i], NULL);
  say("bad children", (uint64_t)bad);
  say("wrong", (uint64_t)wrong);
}

static volatile int handled;
static void handler(int sig) {
  (void)sig;
  int saved = errno;
  int k = handled % 120;
  char name[64];
  snprintf(name, sizeof(name), "images/n%02d/img_%04d.JPEG", k % 6, k);
  char path[5000];
  snprintf(path, sizeof(path), "%s/%s", root, name);
  if (sum_path(path) != expected[k]) __atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
  ++handled;
  errno = saved;
}

static void signals(const char* file) {
  load_expected(file);
  struct sigaction a = {.sa_handler = handler, .sa_flags = SA_RESTART};
  sigaction(SIGALRM, &a, NULL);
  struct itimerval every = {{0, 300}, {0, 300}};
  setitimer(ITIMER_REAL, &every, NULL);
  for (uintptr_t round = 0; round < 3 || handled < 50; ++round) reader((void*)(round + 5));
  every.it_value.tv_usec = every.it_interval.tv_usec = 0;
  setitimer(ITIMER_REAL, &every, NULL);
  say("handled", handled >= 50);
  say("wrong", (uint64_t)wrong);
}

static void* cancelled(void* unused) {
  (void)unused;
  for (;;) {
    int fd = open(in("text/09.txt"), O_RDONLY);
    char b[100];
    read(fd, b, sizeof(b));
    close(fd);
  }
  return NULL;
}

static void cancellation(void) {
  for (int i = 0; i < 50; ++i) {
    pthread_t t;
    pthread_create(&t, NULL, cancelled, NULL);
    usleep(300);
    pthread_cancel(t);
    pthread_join(t, NULL);
  }
  say("after cancellations", sum_path(in("text/09.txt")));
  say("and cold", sum_path(in("text/10.txt")));
}

static void sums(void) {
  for (int k = 0; k < 120; ++k) {
    char name[64];
    snprintf(name, sizeof(name), "images/n%02d/img_%04d.JPEG", k % 6, k);
    printf("%llx\n", (unsigned long long)sum_path(in(name)));
  }
}

int main(int argc, char** argv) {
  const char* part = argv[1];
  if (argc > 2) snprintf(root, sizeof(root), "%s", argv[2]);
  if (!strcmp(part, "duplicates")) duplicates();
  else if (!strcmp(part, "high_numbers")) high_numbers();
  else if (!strcmp(part, "low_limit")) low_limit();
  else if (!strcmp(part, "huge_limit")) huge_limit();
  else if (!strcmp(part, "close_everything")) close_everything();
  else if (!strcmp(part, "closed_standard")) closed_standard(argv[3]);
  else if (!strcmp(part, "send")) send_over_socket();
  else if (!strcmp(part, "receive")) receive(atoi(argv[2]));
  else if (!strcmp(part, "threads")) threads(argv[3]);
  else if (!strcmp(part, "forks")) forks(argv[3]);
  else if (!strcmp(part, "signals")) signals(argv[3]);
  else if (!strcmp(part, "cancellation")) cancellation();
  else if (!strcmp(part, "sums")) sums();
  else return 2;
  fflush(stdout);
  return 0;
}
