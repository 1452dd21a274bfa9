// Reads a lazy object while another thread of the program puts a file of its own over the library's descriptors:
// between any two system calls of the reader, one after the other (the reader is stopped there by ptrace). The bytes
// must be the object's, and the program's file must stay where it was.
//
//   stolen_fd WAY LAZY PLAIN OTHER      WAY: pread, mmap. LAZY: the object. PLAIN: an ordinary file with the same
//   bytes.
//                                       OTHER: a file with other bytes.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

namespace {

constexpr size_t kBytes = 64 * 1024;
constexpr off_t kPlace = 8192;
constexpr int kMostStops = 1000;  // of one read: it takes about 60
constexpr int kNumbers = 700;     // the library keeps its own at 512 and above

[[noreturn]] void die(const char* what) {
  perror(what);
  _exit(2);
}

struct Pipe {
  Pipe() {
    if (pipe2(ends, O_CLOEXEC) != 0) die("pipe");
  }
  template <typename T>
  void put(const T& value) const {
    if (write(ends[1], &value, sizeof value) != static_cast<ssize_t>(sizeof value)) die("write");
  }
  template <typename T>
  T take() const {
    T value;
    if (read(ends[0], &value, sizeof value) != static_cast<ssize_t>(sizeof value)) _exit(0);
    return value;
  }
  bool filled() const {
    pollfd p = {ends[0], POLLIN, 0};
    return poll(&p, 1, 0) == 1;
  }
  int ends[2];
};

struct Pipes {
  Pipe read, answer, steal, stolen;
};

// What the program does in its other thread. How many descriptors it took.
int steal(int handle, int other) {
  int taken = 0;
  for (int n = 3; n < kNumbers; ++n) {
    char link[300];
    const ssize_t size = readlink(("/proc/self/fd/" + std::to_string(n)).c_str(), link, sizeof link - 1);
    if (n == handle || size < 0) continue;
    link[size] = 0;
    if (strstr(link, "/chunks/") != nullptr) taken += dup2(other, n) == n;
  }
  return taken;
}

void give_back(int other) {
  char link[300], mine[300];
  const ssize_t size = readlink(("/proc/self/fd/" + std::to_string(other)).c_str(), mine, sizeof mine);
  for (int n = 3; n < kNumbers; ++n) {
    if (n == other || readlink(("/proc/self/fd/" + std::to_string(n)).c_str(), link, sizeof link) != size) continue;
    if (memcmp(link, mine, static_cast<size_t>(size)) == 0) close(n);
  }
}

ssize_t read_it(bool map, int handle, char* to) {
  if (!map) return pread(handle, to, kBytes, kPlace);
  void* at = mmap(nullptr, kBytes, PROT_READ, MAP_SHARED, handle, kPlace);
  if (at == MAP_FAILED) return -1;
  memcpy(to, at, kBytes);
  munmap(at, kBytes);
  return kBytes;
}

[[noreturn]] void program(const Pipes& p, char** words) {
  const bool map = strcmp(words[1], "mmap") == 0;
  const int handle = open(words[2], O_RDONLY | O_CLOEXEC), plain = open(words[3], O_RDONLY | O_CLOEXEC),
            other = open(words[4], O_RDONLY | O_CLOEXEC);
  std::vector<char> want(kBytes), got(kBytes);
  if (handle < 0 || plain < 0 || other < 0 || pread(plain, want.data(), kBytes, kPlace) != kBytes) die("files");
  std::thread([&] {
    p.answer.put(static_cast<int>(syscall(SYS_gettid)));
    for (;;) {
      (void)p.read.take<char>();
      got.assign(kBytes, 1);
      const ssize_t n = read_it(map, handle, got.data());
      p.answer.put(n < 0 ? errno : n != kBytes || got != want ? -1 : 0);
    }
  }).detach();
  for (;;) {
    const char what = p.steal.take<char>();
    int r = 0;
    if (what == 's') r = steal(handle, other);
    if (what == 'b') give_back(other), r = static_cast<int>(lseek(other, 0, SEEK_CUR) != 0);
    p.stolen.put(r);
  }
}

struct Thief {
  const Pipes& p;
  pid_t reader;
  int taken = 0;

  int ask(char what) const {
    p.steal.put(what);
    return p.stolen.take<int>();
  }
  void go_on() const {
    if (ptrace(PTRACE_SYSCALL, reader, nullptr, nullptr) != 0) die("PTRACE_SYSCALL");
  }
  // One read, robbed at its stops `first`, `first + every`, ..., `times` in all. Returns its result; `stops` is the
  // number of stops.
  int read(int first, int every, int times, int* stops) {
    ask('s');  // so that it has to open the object again
    p.read.put('r');
    for (*stops = 0; *stops < kMostStops && !p.answer.filled(); ++*stops) {
      go_on();
      if (waitpid(reader, nullptr, __WALL) != reader) die("waitpid");
      const int since = *stops - first;
      if (since >= 0 && since % every == 0 && since / every < times) taken += ask('s');
    }
    const int answer = p.answer.take<int>();
    if (ask('b') != 0) return fprintf(stderr, "the program's own file was moved\n"), -2;
    return answer;
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return fprintf(stderr, "stolen_fd WAY LAZY PLAIN OTHER\n"), 2;
  const bool map = strcmp(argv[1], "mmap") == 0;
  Pipes p;
  const pid_t child = fork();
  if (child == 0) program(p, argv);
  Thief thief{p, p.answer.take<int>()};
  if (ptrace(PTRACE_SEIZE, thief.reader, nullptr, nullptr) != 0 ||
      ptrace(PTRACE_INTERRUPT, thief.reader, nullptr, nullptr) != 0)
    die("ptrace");
  if (waitpid(thief.reader, nullptr, __WALL) != thief.reader) die("waitpid");
  int failures = 0, reads = 0;
  for (int times : {1, 2, 9}) {
    int stops = kMostStops;
    for (int first = 0; first < stops; ++first, ++reads) {
      const int answer = thief.read(first, times == 9 ? 3 : 7, times, &stops);
      const bool tired = (times == 9 || map) &&
                         answer == EIO;  // robbed too often: an error, but no wrong byte. Maps are not tried again
      if (answer == 0 || tired) continue;
      printf("robbed %d times from stop %d on: %s\n", times, first,
             answer == -1 ? "WRONG BYTES"
             : answer > 0 ? strerror(answer)
                          : "moved");
      ++failures;
    }
  }
  printf("%d reads, %d descriptors taken, %d failures\n", reads, thief.taken, failures);
  kill(child, SIGKILL);
  return failures != 0 || thief.taken < reads / 2;
}
