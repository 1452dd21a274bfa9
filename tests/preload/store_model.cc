// Random reads of two datasets whose store is in trouble (model_store.cc), while larderd is killed and evicts. What a
// program may see is little: the bytes of one version of an object, from one open to its close; a version that is not
// older than what it saw before; or one of a few errnos.
//
//   store_model VERSIONS MOUNT-A MOUNT-B SEED STEPS
//   store_model VERSIONS MOUNT-A MOUNT-B final      every object, whole: the version that the store has now
//
// Exit status 0: nothing else was seen; the last line says what was done. 1: the first thing that may not be is on
// stderr, with the seed and the step.
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <algorithm>
#include <random>
#include <vector>

#include "tests/preload/versioned_objects.h"

namespace {

using namespace versioned;

constexpr int kOpen = 24;  // files that are kept open
constexpr size_t kMostBytes = 300'000;

Versions* versions;
std::string mounts[kDatasets];
uint64_t first_seed, step;
std::mt19937_64 rng;
uint64_t done[8], refused[8];  // by kind of step
enum Kind { kWhole, kOpened, kRead, kMapped, kStat, kList };

uint64_t below(uint64_t n) {
  return n == 0 ? 0 : rng() % n;
}

[[noreturn]] __attribute__((format(printf, 1, 2))) void wrong(const char* format, ...) {
  fprintf(stderr, "seed %llu, step %llu: ", static_cast<unsigned long long>(first_seed),
          static_cast<unsigned long long>(step));
  va_list ap;
  va_start(ap, format);
  vfprintf(stderr, format, ap);
  va_end(ap);
  fputc('\n', stderr);
  _exit(1);
}

struct File {
  int fd = -1;
  int dataset = 0, object = 0;
  uint64_t size = 0;
  uint32_t from = 0, to = 0;  // the versions that all its bytes may be of
  bool open() const { return fd >= 0; }
};
File files[kOpen];
uint32_t seen[kDatasets][kObjects];  // the least version that an open may still give

std::string path_of(int dataset, int object) {
  return mounts[dataset] + "/" + name_of(object);
}

// What a store in trouble, a changed object or a larderd that is away may cost. Nothing else is an answer.
bool may_fail_with(int error) {
  return error == EIO || error == ESTALE || error == EACCES || error == ENOENT;
}

void refuse(Kind kind, const char* what, int dataset, int object, int error) {
  if (!may_fail_with(error))
    wrong("%s of %s: errno %d (%s)", what, path_of(dataset, object).c_str(), error, strerror(error));
  ++refused[kind];
}

// Narrows the versions of a file down to those of which these bytes may be; none: they are wrong.
void check(File& f, const char* data, size_t bytes, uint64_t offset, const char* what) {
  uint32_t from = 0, to = 0;
  for (uint32_t v = f.from; v <= f.to; ++v) {
    if (size_of(f.dataset, f.object, v) != f.size || !is_made_by(data, bytes, offset, seed_of(f.dataset, f.object, v)))
      continue;
    from = from == 0 ? v : from;
    to = v;
  }
  if (from == 0)
    wrong("%s of %s: %zu bytes at %llu of %llu are of none of the versions %u to %u", what,
          path_of(f.dataset, f.object).c_str(), bytes, static_cast<unsigned long long>(offset),
          static_cast<unsigned long long>(f.size), f.from, f.to);
  f.from = from, f.to = to;
  seen[f.dataset][f.object] = std::max(seen[f.dataset][f.object], from);
}

void close_file(File& f) {
  if (f.open()) close(f.fd);
  f = File();
}

// False: it may not be opened now.
bool open_file(File& f, int dataset, int object, Kind kind) {
  close_file(f);
  const int fd = open(path_of(dataset, object).c_str(), O_RDONLY | (below(2) ? O_CLOEXEC : 0));
  if (fd < 0) return refuse(kind, "open", dataset, object, errno), false;
  struct stat st;
  if (fstat(fd, &st) != 0) wrong("fstat of %s: errno %d", path_of(dataset, object).c_str(), errno);
  f = {fd, dataset, object, static_cast<uint64_t>(st.st_size), seen[dataset][object], versions->now[dataset][object]};
  f.from = std::max(f.from, 1U);
  check(f, nullptr, 0, 0, "open");  // its size is one that such a version has
  ++done[kind];
  return true;
}

void pick(int* dataset, int* object) {
  *dataset = static_cast<int>(below(kDatasets));
  *object = static_cast<int>(below(kObjects));
}

// ---- steps

void read_whole() {
  int dataset, object;
  do
    pick(&dataset, &object);
  while (is_large(dataset, object) && below(20) != 0);
  File f;
  if (!open_file(f, dataset, object, kWhole)) return;
  static std::string data;
  data.resize(f.size + 1);
  size_t got = 0;
  for (;;) {
    const ssize_t n = read(f.fd, data.data() + got, data.size() - got);
    if (n < 0 && !is_large(dataset, object))
      wrong("read of %s, which is open: errno %d", path_of(dataset, object).c_str(), errno);
    if (n < 0) {
      refuse(kRead, "read", dataset, object, errno);
      return close_file(f);
    }
    if (n == 0) break;
    got += static_cast<size_t>(n);
  }
  if (got != f.size)
    wrong("read of %s: %zu of %llu bytes", path_of(dataset, object).c_str(), got,
          static_cast<unsigned long long>(f.size));
  check(f, data.data(), got, 0, "read");
  close_file(f);
}

void open_one() {
  int dataset, object;
  pick(&dataset, &object);
  open_file(files[below(kOpen)], dataset, object, kOpened);
}

void read_part() {
  File& f = files[below(kOpen)];
  if (!f.open()) return open_one();
  const uint64_t offset = below(f.size + 10);
  const size_t bytes = below(4) == 0 ? below(kMostBytes) : below(5000);
  static std::string data;
  data.resize(bytes);
  const ssize_t n = pread(f.fd, data.data(), bytes, static_cast<off_t>(offset));
  if (n < 0 && !is_large(f.dataset, f.object))
    wrong("pread of %s, which is open: errno %d", path_of(f.dataset, f.object).c_str(), errno);
  if (n < 0) {
    refuse(kRead, "pread", f.dataset, f.object, errno);
    if (below(2)) close_file(f);
    return;
  }
  const uint64_t left = offset < f.size ? f.size - offset : 0, most = std::min<uint64_t>(bytes, left);
  const bool is_short = static_cast<uint64_t>(n) < most;  // a lazy object's read that failed in the middle
  if (static_cast<uint64_t>(n) > most || (is_short && (n == 0 || !is_large(f.dataset, f.object))))
    wrong("pread of %s at %llu: %zd of %llu bytes", path_of(f.dataset, f.object).c_str(),
          static_cast<unsigned long long>(offset), n, static_cast<unsigned long long>(most));
  check(f, data.data(), static_cast<size_t>(n), offset, "pread");
  ++done[kRead];
}

sigjmp_buf fault;
volatile sig_atomic_t touching = 0;

void on_fault(int signal) {
  if (touching) siglongjmp(fault, 1);
  ::signal(signal, SIG_DFL);
}

void read_mapped() {
  File& f = files[below(kOpen)];
  if (!f.open() || f.size == 0) return open_one();
  char* base = static_cast<char*>(mmap(nullptr, f.size, PROT_READ, below(2) ? MAP_PRIVATE : MAP_SHARED, f.fd, 0));
  if (base == MAP_FAILED) {
    if (errno == ENODEV || errno == EFBIG) return;  // no userfaultfd here, and it does not fit
    return refuse(kMapped, "mmap", f.dataset, f.object, errno);
  }
  static char page[4096];
  for (int i = 0; i < 4; ++i) {
    const uint64_t offset = below(f.size) & ~uint64_t{4095};
    const size_t bytes = std::min<uint64_t>(sizeof page, f.size - offset);
    if (sigsetjmp(fault, 1) != 0) {
      touching = 0;
      if (!is_large(f.dataset, f.object))
        wrong("a page of %s at %llu: a signal", path_of(f.dataset, f.object).c_str(),
              static_cast<unsigned long long>(offset));
      ++refused[kMapped];
      break;
    }
    touching = 1;
    memcpy(page, base + offset, bytes);
    touching = 0;
    check(f, page, bytes, offset, "a page");
    ++done[kMapped];
  }
  munmap(base, f.size);
}

// Attributes come from the catalog: there is no trouble that they could be in.
void look() {
  int dataset, object;
  pick(&dataset, &object);
  struct stat st;
  if (stat(path_of(dataset, object).c_str(), &st) != 0)
    wrong("stat of %s: errno %d", path_of(dataset, object).c_str(), errno);
  const int64_t version = (st.st_mtime - time_of(0)) / 10;
  const uint32_t now = versions->now[dataset][object];
  if (version < seen[dataset][object] || version > now ||
      size_of(dataset, object, static_cast<uint32_t>(version)) != static_cast<uint64_t>(st.st_size))
    wrong("stat of %s: %lld bytes of version %lld; versions %u to %u may be", path_of(dataset, object).c_str(),
          static_cast<long long>(st.st_size), static_cast<long long>(version), seen[dataset][object], now);
  seen[dataset][object] = static_cast<uint32_t>(version);
  ++done[kStat];
}

void list() {
  const int dataset = static_cast<int>(below(kDatasets)), folder = static_cast<int>(below(5));
  DIR* dir = opendir((mounts[dataset] + "/d" + std::to_string(folder)).c_str());
  if (dir == nullptr) wrong("opendir: errno %d", errno);
  int count = 0;
  while (const dirent* d = readdir(dir))
    count += d->d_name[0] == 'f';
  closedir(dir);
  if (count != kObjects / 5) wrong("a folder of %s has %d files", mounts[dataset].c_str(), count);
  ++done[kList];
}

void duplicate() {
  File& f = files[below(kOpen)];
  if (!f.open()) return open_one();
  const int other = dup(f.fd);
  if (other < 0) wrong("dup: errno %d", errno);
  close(f.fd);
  f.fd = other;
}

void random_step() {
  switch (below(20)) {
    case 0 ... 6:
      return read_whole();
    case 7 ... 12:
      return read_part();
    case 13 ... 14:
      return open_one();
    case 15:
      return read_mapped();
    case 16:
      return duplicate();
    case 17:
      return below(4) == 0 ? list() : look();
    default:
      return look();
  }
}

// The store is well again: everything can be read, and is what the store has.
void read_everything() {
  for (int dataset = 0; dataset < kDatasets; ++dataset) {
    for (int object = 0; object < kObjects; ++object) {
      File f;
      if (!open_file(f, dataset, object, kWhole))
        wrong("open of %s, now that the store is well: errno %d", path_of(dataset, object).c_str(), errno);
      std::string data(f.size, 0);
      f.from = f.to = versions->now[dataset][object];
      for (size_t got = 0; got < f.size;) {
        const ssize_t n = read(f.fd, data.data() + got, data.size() - got);
        if (n <= 0)
          wrong("read of %s, now that the store is well: %zd, errno %d", path_of(dataset, object).c_str(), n, errno);
        got += static_cast<size_t>(n);
      }
      check(f, data.data(), data.size(), 0, "read");
      close_file(f);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const bool final = argc == 5 && strcmp(argv[4], "final") == 0;
  if ((argc != 6 && !final) || (versions = map_versions(argv[1])) == nullptr) return 2;
  for (int i = 0; i < kDatasets; ++i)
    mounts[i] = argv[2 + i];
  if (final) {
    read_everything();
    puts("everything is right");
    return 0;
  }
  signal(SIGBUS, on_fault);
  signal(SIGSEGV, on_fault);
  first_seed = strtoull(argv[4], nullptr, 10);
  rng.seed(first_seed);
  const uint64_t steps = strtoull(argv[5], nullptr, 10);
  for (step = 0; step < steps; ++step)
    random_step();
  static constexpr const char* kNames[] = {"whole", "open", "read", "page", "stat", "list"};
  printf("%" PRIu64 " steps:", steps);
  for (int i = 0; i < 6; ++i)
    printf(" %s %" PRIu64 "/%" PRIu64, kNames[i], done[i], done[i] + refused[i]);
  puts("");
}
