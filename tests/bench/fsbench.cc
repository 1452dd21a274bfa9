// One measurement of file work, on libc alone, so that the same program runs bare on a tmpfs and under the preload.
//
//   fsbench read ROOT LIST PROCESSES SEED       open, fstat, read, read, close of every file, shuffled, by each process
//   fsbench share ROOT LIST PROCESSES SEED      the same, but the processes share the files (a cold epoch)
//   fsbench stat ROOT LIST SEED                 stat of every path, shuffled
//   fsbench walk ROOT                           opendir, readdir, stat of everything below
//   fsbench pread FILE COUNT SEED               4 KiB preads at random places
//   fsbench mmap FILE COUNT SEED                the same places through a mapping
//   fsbench rows FILE SIZE COUNT THREADS SEED   preads of SIZE at random places, which the threads share
//   fsbench stream FILE SIZE BYTES              open, then reads of SIZE until BYTES are there; ops are reads
//   fsbench outside open|stat|read PATH COUNT   the call again and again on one path: in turn the one that the program
//                                               finds and libc's own; "more" is the median of the differences
//   fsbench start PRELOAD COUNT PROGRAM [ARG].. posix_spawn and end of it with LD_PRELOAD=PRELOAD ("-": without)
//
// Prints one JSON line: {"ops": N, "ns": N per op, "sum": checksum of what was read}. LIST has a relative path a line.
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr size_t kBuffer = 256 * 1024;  // CPython's buffer at this st_blksize
constexpr size_t kPage = 4096;

[[noreturn]] void die(const std::string& what) {
  fprintf(stderr, "fsbench: %s: %s\n", what.c_str(), strerror(errno));
  exit(1);
}

struct Result {
  uint64_t ops = 0;
  uint64_t sum = 0;
};

class Stopwatch {
 public:
  double ns() const {
    return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

std::vector<std::string> read_list(const std::string& root, const char* list, unsigned seed) {
  std::vector<std::string> paths;
  std::ifstream in(list);
  if (!in) die(list);
  for (std::string line; std::getline(in, line);)
    paths.push_back(root + "/" + line);
  std::mt19937 random(seed);
  std::shuffle(paths.begin(), paths.end(), random);
  return paths;
}

uint64_t read_file(const std::string& path, char* buffer) {
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) die(path);
  struct stat st;
  if (fstat(fd, &st) != 0) die(path);
  uint64_t size = 0, sum = 0;
  for (ssize_t n; (n = read(fd, buffer, kBuffer)) != 0;) {
    if (n < 0) die(path);
    size += static_cast<uint64_t>(n);
    sum += static_cast<unsigned char>(buffer[0]) + static_cast<unsigned char>(buffer[n - 1]);
  }
  if (size != static_cast<uint64_t>(st.st_size)) die(path + ": short file");
  close(fd);
  return sum + size;
}

Result read_all(const std::vector<std::string>& paths, size_t first, size_t step) {
  std::vector<char> buffer(kBuffer);
  Result r;
  for (size_t i = first; i < paths.size(); i += step, ++r.ops)
    r.sum += read_file(paths[i], buffer.data());
  return r;
}

// Runs `body` in `processes` children; their results come back through a pipe.
template <typename Body>
Result in_processes(int processes, Body body) {
  int ends[2];
  if (pipe(ends) != 0) die("pipe");
  for (int p = 0; p < processes; ++p) {
    if (fork() != 0) continue;
    Result r = body(p);
    _exit(write(ends[1], &r, sizeof r) == sizeof r ? 0 : 1);
  }
  close(ends[1]);
  Result total;
  int got = 0;
  for (Result r; read(ends[0], &r, sizeof r) == sizeof r; ++got)
    total = {total.ops + r.ops, total.sum + r.sum};
  close(ends[0]);
  while (wait(nullptr) > 0) {
  }
  if (got != processes) die("a process failed");
  return total;
}

Result bench_read(char** a, bool share) {
  int processes = atoi(a[2]);
  unsigned seed = static_cast<unsigned>(atoi(a[3]));
  if (processes == 1) return read_all(read_list(a[0], a[1], seed), 0, 1);
  std::vector<std::string> paths = read_list(a[0], a[1], seed);
  return in_processes(processes, [&](int p) {
    if (share) return read_all(paths, static_cast<size_t>(p), static_cast<size_t>(processes));
    std::rotate(paths.begin(), paths.begin() + static_cast<long>(paths.size()) * p / processes, paths.end());
    return read_all(paths, 0, 1);
  });
}

Result bench_stat(const std::vector<std::string>& paths) {
  Result r;
  for (const std::string& path : paths) {
    struct stat st;
    if (stat(path.c_str(), &st) != 0) die(path);
    r.sum += static_cast<uint64_t>(st.st_size);
    ++r.ops;
  }
  return r;
}

void walk(std::string& path, Result& r) {
  DIR* dir = opendir(path.c_str());
  if (!dir) die(path);
  size_t length = path.size();
  while (dirent* e = readdir(dir)) {
    if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
    path.append("/").append(e->d_name);
    struct stat st;
    if (lstat(path.c_str(), &st) != 0) die(path);
    ++r.ops;
    if (S_ISDIR(st.st_mode))
      walk(path, r);
    else
      r.sum += static_cast<uint64_t>(st.st_size);
    path.resize(length);
  }
  closedir(dir);
}

std::vector<uint64_t> places(int fd, const char* count, const char* seed, uint64_t unit = kPage) {
  struct stat st;
  if (fstat(fd, &st) != 0 || st.st_size < static_cast<off_t>(unit)) die("size");
  std::mt19937_64 random(static_cast<uint64_t>(atoll(seed)));
  std::vector<uint64_t> out(static_cast<size_t>(atoll(count)));
  for (uint64_t& at : out)
    at = random() % (static_cast<uint64_t>(st.st_size) / unit) * unit;
  return out;
}

int open_or_die(const char* path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) die(path);
  return fd;
}

Result bench_pread(int fd, const std::vector<uint64_t>& at) {
  alignas(64) char page[kPage];
  Result r;
  for (uint64_t a : at) {
    if (pread(fd, page, kPage, static_cast<off_t>(a)) != static_cast<ssize_t>(kPage)) die("pread");
    r.sum += static_cast<unsigned char>(page[a / kPage % kPage]);
    ++r.ops;
  }
  return r;
}

Result bench_mmap(int fd, const std::vector<uint64_t>& at) {
  struct stat st;
  if (fstat(fd, &st) != 0) die("fstat");
  void* base = mmap(nullptr, static_cast<size_t>(st.st_size), PROT_READ, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) die("mmap");
  Result r;
  char page[kPage];
  for (uint64_t a : at) {
    memcpy(page, static_cast<const char*>(base) + a, kPage);
    r.sum += static_cast<unsigned char>(page[a / kPage % kPage]);
    ++r.ops;
  }
  munmap(base, static_cast<size_t>(st.st_size));
  return r;
}

Result bench_rows(int fd, size_t size, const std::vector<uint64_t>& at, int threads) {
  std::atomic<size_t> next{0};
  std::atomic<uint64_t> sum{0};
  std::vector<std::thread> all;
  for (int t = 0; t < threads; ++t)
    all.emplace_back([&] {
      std::vector<char> row(size);
      for (size_t i; (i = next++) < at.size();) {
        if (pread(fd, row.data(), size, static_cast<off_t>(at[i])) != static_cast<ssize_t>(size)) die("pread");
        sum += static_cast<unsigned char>(row[size / 2]);
      }
    });
  for (std::thread& t : all)
    t.join();
  return {at.size(), sum};
}

Result bench_stream(const char* path, size_t size, uint64_t bytes) {
  std::vector<char> buffer(size);
  int fd = open_or_die(path);
  Result r;
  for (uint64_t done = 0; done < bytes; ++r.ops) {
    ssize_t n = read(fd, buffer.data(), std::min<uint64_t>(size, bytes - done));
    if (n <= 0) die("read");
    r.sum += static_cast<unsigned char>(buffer[static_cast<size_t>(n) / 2]);
    done += static_cast<uint64_t>(n);
  }
  close(fd);
  return r;
}

// The calls that a row measures: those that the program is bound to (the preload's, if there is one), or libc's own.
struct Calls {
  int (*open_file)(const char*, int, ...) = ::open;
  int (*close_file)(int) = ::close;
  int (*stat_file)(const char*, struct stat*) = ::stat;
  ssize_t (*pread_file)(int, void*, size_t, off_t) = ::pread;

  static Calls of_libc() {
    void* libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
    Calls c;
    if (!libc || !(c.open_file = reinterpret_cast<decltype(c.open_file)>(dlsym(libc, "open"))) ||
        !(c.close_file = reinterpret_cast<decltype(c.close_file)>(dlsym(libc, "close"))) ||
        !(c.stat_file = reinterpret_cast<decltype(c.stat_file)>(dlsym(libc, "stat"))) ||
        !(c.pread_file = reinterpret_cast<decltype(c.pread_file)>(dlsym(libc, "pread"))))
      die("dlsym");
    return c;
  }
};

double call_outside(const Calls& calls, char what, const char* path, int fd, uint64_t count, Result& r) {
  Stopwatch watch;
  for (uint64_t i = 0; i < count; ++i) {
    struct stat st;
    char byte = 0;
    if (what == 'o')
      r.sum += calls.close_file(calls.open_file(path, O_RDONLY | O_CLOEXEC)) == 0 ? 1 : 0;
    else if (what == 's')
      r.sum += calls.stat_file(path, &st) == 0 ? 1 : 0;
    else
      r.sum += calls.pread_file(fd, &byte, 1, 0) == 1 ? 1 : 0;
  }
  r.ops += count;
  return watch.ns() / static_cast<double>(count);
}

double median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<long>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

// Short turns, so that other load on the machine hits both alike.
int bench_outside(const char* what, const char* path, uint64_t count) {
  constexpr uint64_t kTurn = 100;
  Calls program, libc = Calls::of_libc();
  Result r, base;
  int fd = open_or_die(path);
  std::vector<double> ours, theirs, more;
  for (uint64_t done = 0; done < count; done += kTurn) {
    double b = call_outside(libc, what[0], path, fd, kTurn, base),
           a = call_outside(program, what[0], path, fd, kTurn, r);
    double c = call_outside(libc, what[0], path, fd, kTurn, base);
    ours.push_back(a), theirs.push_back(b), more.push_back(a - (b + c) / 2);
  }
  close(fd);
  if (r.sum != r.ops || base.sum != base.ops) die(what);
  printf("{\"ops\": %" PRIu64 ", \"ns\": %.1f, \"libc_ns\": %.1f, \"more\": %.1f, \"sum\": %" PRIu64 "}\n", r.ops,
         median(ours), median(theirs), median(more), r.sum);
  return 0;
}

Result bench_start(const std::string& preload, uint64_t count, char** argv) {
  std::string variable = "LD_PRELOAD=" + preload;
  std::vector<char*> env;
  for (char** e = environ; *e; ++e)
    if (strncmp(*e, "LD_PRELOAD=", 11) != 0) env.push_back(*e);
  if (preload != "-") env.push_back(variable.data());
  env.push_back(nullptr);
  Result r;
  for (; r.ops < count; ++r.ops) {
    pid_t pid;
    int status;
    if (posix_spawn(&pid, argv[0], nullptr, nullptr, argv, env.data()) != 0 || waitpid(pid, &status, 0) != pid)
      die("spawn");
    r.sum += static_cast<uint64_t>(status);
  }
  return r;
}

template <typename Body>
int timed(Body body) {
  Stopwatch watch;
  Result r = body();
  double ns = watch.ns();
  printf("{\"ops\": %" PRIu64 ", \"ns\": %.1f, \"seconds\": %.6f, \"sum\": %" PRIu64 "}\n", r.ops,
         ns / static_cast<double>(r.ops ? r.ops : 1), ns / 1e9, r.sum);
  return 0;
}

int usage() {
  fprintf(stderr,
          "fsbench read|share|stat|walk|pread|mmap|rows|stream|outside|start ...: see the head of fsbench.cc\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  std::string what = argc > 1 ? argv[1] : "";
  char** a = argv + 2;
  int n = argc - 2;
  if ((what == "read" || what == "share") && n == 4) return timed([&] { return bench_read(a, what == "share"); });
  if (what == "stat" && n == 3) {
    auto paths = read_list(a[0], a[1], static_cast<unsigned>(atoi(a[2])));
    return timed([&] { return bench_stat(paths); });
  }
  if (what == "walk" && n == 1) {
    return timed([&] {
      Result r;
      std::string path = a[0];
      walk(path, r);
      return r;
    });
  }
  if ((what == "pread" || what == "mmap") && n == 3) {
    int fd = open_or_die(a[0]);
    auto at = places(fd, a[1], a[2]);
    return timed([&] { return what == "pread" ? bench_pread(fd, at) : bench_mmap(fd, at); });
  }
  if (what == "rows" && n == 5) {
    const auto size = static_cast<size_t>(atoll(a[1]));
    return timed([&] {
      int fd = open_or_die(a[0]);
      return bench_rows(fd, size, places(fd, a[2], a[4], size), atoi(a[3]));
    });
  }
  if (what == "stream" && n == 3)
    return timed(
        [&] { return bench_stream(a[0], static_cast<size_t>(atoll(a[1])), static_cast<uint64_t>(atoll(a[2]))); });
  if (what == "outside" && n == 3) return bench_outside(a[0], a[1], static_cast<uint64_t>(atoll(a[2])));
  if (what == "start" && n >= 3)
    return timed([&] { return bench_start(a[0], static_cast<uint64_t>(atoll(a[1])), a + 2); });
  return usage();
}
