// Random sequences of every way to read, on a plain file and on the same file in a dataset, compared step by step: what
// the call returns, errno, every byte, and the position afterwards. Objects are larger than a chunk, perhaps larger
// than the cache, and the daemon evicts throughout.
//
//   lazy_model PLAIN DATASET SEED STEPS [no-map]      both folders hold the same files
//   lazy_model PLAIN DATASET SEED STEPS threads       many threads, each with a sequence of open, pread, dup, close
//
// Exit status 0: no difference. 1: the first difference is on stderr, with the seed and step that reproduce it.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <dirent.h>
#include <algorithm>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr int kPairs = 12;
constexpr int kStreams = 4;
constexpr int kMaps = 4;
constexpr size_t kMostBytes = 3 << 20;

uint64_t seed, step;
std::mt19937_64 rng;
uint64_t below(uint64_t n) {
  return n == 0 ? 0 : rng() % n;
}

[[noreturn]] __attribute__((format(printf, 1, 2))) void differ(const char* format, ...) {
  fprintf(stderr, "seed %llu, step %llu: ", static_cast<unsigned long long>(seed),
          static_cast<unsigned long long>(step));
  va_list ap;
  va_start(ap, format);
  vfprintf(stderr, format, ap);
  va_end(ap);
  fputc('\n', stderr);
  _exit(1);
}

// What one call did, on one side.
struct Outcome {
  long r = 0;
  int error = 0;
  std::string bytes;
};

template <typename Call>
Outcome run(Call call) {
  Outcome o;
  errno = 0;
  o.r = call(o.bytes);
  o.error = o.r < 0 ? errno : 0;
  return o;
}

void compare(const char* what, const Outcome& plain, const Outcome& ours, unsigned long long a = 0,
             unsigned long long b = 0) {
  if (plain.r != ours.r || plain.error != ours.error)
    differ("%s(%llu, %llu): plain %ld errno %d, dataset %ld errno %d", what, a, b, plain.r, plain.error, ours.r,
           ours.error);
  if (plain.bytes == ours.bytes) return;
  size_t at = 0;
  while (at < plain.bytes.size() && at < ours.bytes.size() && plain.bytes[at] == ours.bytes[at])
    ++at;
  differ("%s(%llu, %llu): %zu and %zu bytes, the first other one at %zu", what, a, b, plain.bytes.size(),
         ours.bytes.size(), at);
}

// ---- open files ---------------------------------------------------------------------------------

std::string roots[2];
std::vector<std::string> names;
std::vector<off_t> sizes;

struct Pair {
  int fd[2] = {-1, -1};
  size_t file = 0;
  bool open() const { return fd[0] >= 0; }
};
Pair pairs[kPairs];

struct StreamPair {
  FILE* stream[2] = {nullptr, nullptr};
  size_t file = 0;
};
StreamPair streams[kStreams];

struct MapPair {
  char* base[2] = {nullptr, nullptr};
  size_t length = 0;
};
MapPair maps[kMaps];

template <typename Call>
void on_both(const char* what, Pair& p, unsigned long long a, unsigned long long b, Call call) {
  Outcome o[2];
  for (int side = 0; side < 2; ++side)
    o[side] = run([&](std::string& bytes) { return static_cast<long>(call(p.fd[side], bytes)); });
  compare(what, o[0], o[1], a, b);
  long at[2] = {lseek(p.fd[0], 0, SEEK_CUR), lseek(p.fd[1], 0, SEEK_CUR)};
  if (at[0] != at[1]) differ("%s(%llu, %llu): afterwards at %ld and %ld", what, a, b, at[0], at[1]);
}

// Faults are likely at the ends of chunks and of the file.
off_t some_offset(size_t file) {
  off_t size = sizes[file];
  switch (below(6)) {
    case 0:
      return static_cast<off_t>(below(static_cast<uint64_t>(size) + 2));
    case 1:
      return std::max<off_t>(0, size - static_cast<off_t>(below(70000)));
    case 2:
      return static_cast<off_t>(below(static_cast<uint64_t>(size >> 16) + 1)) << 16;
    case 3:
      return std::max<off_t>(0, (static_cast<off_t>(below(static_cast<uint64_t>(size >> 20) + 1)) << 20) -
                                    static_cast<off_t>(below(5000)));
    case 4:
      return size + static_cast<off_t>(below(100000));
    default:
      return static_cast<off_t>(below(static_cast<uint64_t>(size) + 1));
  }
}

size_t some_size() {
  switch (below(5)) {
    case 0:
      return below(16);
    case 1:
      return below(5000);
    case 2:
      return below(100000);
    case 3:
      return below(600000);
    default:
      return below(kMostBytes);
  }
}

void close_pair(Pair& p) {
  for (int& fd : p.fd) {
    if (fd >= 0) close(fd);
    fd = -1;
  }
}

void open_pair(Pair& p) {
  close_pair(p);
  p.file = below(names.size());
  const int flags = O_RDONLY | (below(2) ? O_CLOEXEC : 0);
  for (int side = 0; side < 2; ++side)
    p.fd[side] = open((roots[side] + "/" + names[p.file]).c_str(), flags);
  if (p.fd[0] < 0 || p.fd[1] < 0)
    differ("open of %s: %d and %d, errno %d", names[p.file].c_str(), p.fd[0], p.fd[1], errno);
  struct stat st[2];
  for (int side = 0; side < 2; ++side)
    if (fstat(p.fd[side], &st[side]) != 0) differ("fstat of %s: errno %d", names[p.file].c_str(), errno);
  if (st[0].st_size != st[1].st_size || (st[0].st_mode & S_IFMT) != (st[1].st_mode & S_IFMT))
    differ("fstat of %s", names[p.file].c_str());
}

// ---- calls on descriptors -----------------------------------------------------------------------

void do_read(Pair& p) {
  size_t n = some_size();
  on_both("read", p, n, 0, [&](int fd, std::string& b) {
    b.resize(n);
    ssize_t r = read(fd, b.data(), n);
    b.resize(r > 0 ? static_cast<size_t>(r) : 0);
    return r;
  });
}

// As stdio, tar and readers of records do.
void do_small_reads(Pair& p) {
  const size_t n = 1 + below(below(4) == 0 ? 20000 : 4096);
  const int count = 2 + static_cast<int>(below(40));
  on_both("small reads", p, n, static_cast<unsigned long long>(count), [&](int fd, std::string& b) {
    std::string piece(n, 0);
    for (int i = 0; i < count; ++i) {
      const ssize_t r = read(fd, piece.data(), n);
      if (r < 0) return r;
      b.append(piece, 0, static_cast<size_t>(r));
    }
    return static_cast<ssize_t>(b.size());
  });
}

void do_pread(Pair& p) {
  size_t n = some_size();
  off_t at = below(40) == 0 ? -1 : some_offset(p.file);
  on_both("pread", p, n, static_cast<unsigned long long>(at), [&](int fd, std::string& b) {
    b.resize(n);
    ssize_t r = pread(fd, b.data(), n, at);
    b.resize(r > 0 ? static_cast<size_t>(r) : 0);
    return r;
  });
}

ssize_t vector_call(int fd, std::string& b, const std::vector<size_t>& parts, off_t at, int kind) {
  size_t sum = 0;
  for (size_t n : parts)
    sum += n;
  b.resize(sum);
  std::vector<struct iovec> iov;
  size_t used = 0;
  for (size_t n : parts)
    iov.push_back({b.data() + used, n}), used += n;
  int count = static_cast<int>(iov.size());
  ssize_t r = kind == 0   ? readv(fd, iov.data(), count)
              : kind == 1 ? preadv(fd, iov.data(), count, at)
              : kind == 2 ? preadv2(fd, iov.data(), count, at, 0)
                          : preadv2(fd, iov.data(), count, -1, 0);
  b.resize(r > 0 ? static_cast<size_t>(r) : 0);
  return r;
}

void do_vector(Pair& p) {
  std::vector<size_t> parts(1 + below(6));
  for (size_t& n : parts)
    n = below(4) == 0 ? 0 : below(60000);
  off_t at = some_offset(p.file);
  int kind = static_cast<int>(below(4));
  on_both(kind == 0 ? "readv" : "preadv", p, parts.size(), static_cast<unsigned long long>(at),
          [&](int fd, std::string& b) { return vector_call(fd, b, parts, at, kind); });
}

void do_seek(Pair& p) {
  static const int kWhence[] = {SEEK_SET, SEEK_CUR, SEEK_END, SEEK_SET};
  int whence = kWhence[below(4)];
  off_t at = whence == SEEK_SET ? some_offset(p.file) : static_cast<off_t>(below(200000)) - 100000;
  on_both("lseek", p, static_cast<unsigned long long>(at), static_cast<unsigned long long>(whence),
          [&](int fd, std::string&) { return lseek(fd, at, whence); });
}

void do_hole(Pair& p) {
  off_t at = some_offset(p.file), back = lseek(p.fd[0], 0, SEEK_CUR);
  on_both("lseek SEEK_HOLE", p, static_cast<unsigned long long>(at), 0, [&](int fd, std::string&) {
    off_t r = lseek(fd, at, SEEK_HOLE);
    if (r < 0) return static_cast<long>(r);
    lseek(fd, back, SEEK_SET);
    return static_cast<long>(r);
  });
}

void do_dup(Pair& p) {
  Pair& to = pairs[below(kPairs)];
  if (&to == &p) return;
  close_pair(to);
  to.file = p.file;
  int kind = static_cast<int>(below(3));
  for (int side = 0; side < 2; ++side)
    to.fd[side] = kind == 0   ? dup(p.fd[side])
                  : kind == 1 ? fcntl(p.fd[side], F_DUPFD_CLOEXEC, 20)
                              : dup3(p.fd[side], 700 + 2 * static_cast<int>(&to - pairs) + side, O_CLOEXEC);
  if (to.fd[0] < 0 || to.fd[1] < 0) differ("dup: errno %d", errno);
}

// What `put(fd)` writes into a file of its own.
template <typename Put>
long through_file(std::string& b, Put put) {
  int out = memfd_create("out", MFD_CLOEXEC);
  long r = put(out);
  int error = errno;
  b.resize(static_cast<size_t>(lseek(out, 0, SEEK_END)));
  if (pread(out, b.data(), b.size(), 0) != static_cast<ssize_t>(b.size())) differ("memfd");
  close(out);
  errno = error;
  return r;
}

void do_sendfile(Pair& p) {
  size_t n = some_size();
  off_t at = some_offset(p.file);
  bool own = below(2);
  on_both("sendfile", p, n, static_cast<unsigned long long>(at), [&](int fd, std::string& b) {
    return through_file(b, [&](int out) {
      off_t from = at;
      ssize_t r = sendfile(out, fd, own ? &from : nullptr, n);
      if (own && r >= 0 && from != at + r) differ("sendfile's offset");
      return r;
    });
  });
}

// Between file systems the kernel may refuse: only the dataset's result is checked.
void do_copy_range(Pair& p) {
  size_t n = some_size() + 1;
  off_t at = some_offset(p.file);
  std::string expected(n, 0), got;
  ssize_t want = pread(p.fd[0], expected.data(), n, at);
  expected.resize(want > 0 ? static_cast<size_t>(want) : 0);
  off64_t from = at;
  ssize_t r = through_file(got, [&](int out) { return copy_file_range(p.fd[1], &from, out, nullptr, n, 0); });
  if (r < 0 && errno == EXDEV) return;  // a whole object: the kernel's own answer
  if (r != want || from != at + want || got != expected)
    differ("copy_file_range(%zu, %ld): %zd, not %zd (errno %d)", n, static_cast<long>(at), r, want, errno);
}

void do_splice(Pair& p) {
  off_t at = some_offset(p.file);
  std::string expected(65536, 0), got(65536, 0);
  ssize_t want = pread(p.fd[0], expected.data(), expected.size(), at);
  int pipes[2];
  if (pipe(pipes) != 0) differ("pipe");
  off64_t from = at;
  ssize_t r = splice(p.fd[1], &from, pipes[1], nullptr, 65536, 0);
  close(pipes[1]);
  if (r < 0 || (want > 0) != (r > 0) || r > want || from != at + r)
    differ("splice at %ld: %zd of %zd (errno %d)", static_cast<long>(at), r, want, errno);
  ssize_t n = r > 0 ? read(pipes[0], got.data(), static_cast<size_t>(r)) : 0;
  close(pipes[0]);
  if (n != r || memcmp(got.data(), expected.data(), static_cast<size_t>(n)) != 0)
    differ("splice at %ld: other bytes", static_cast<long>(at));
}

void do_advise(Pair& p) {
  off_t at = some_offset(p.file);
  static const int kAdvice[] = {POSIX_FADV_NORMAL, POSIX_FADV_SEQUENTIAL, POSIX_FADV_RANDOM, POSIX_FADV_WILLNEED,
                                POSIX_FADV_DONTNEED};
  int advice = kAdvice[below(5)];
  on_both("posix_fadvise", p, static_cast<unsigned long long>(at), static_cast<unsigned long long>(advice),
          [&](int fd, std::string&) { return posix_fadvise(fd, at, 100000, advice); });
  on_both("readahead", p, static_cast<unsigned long long>(at), 0,
          [&](int fd, std::string&) { return readahead(fd, at, 50000); });
}

void do_refused(Pair& p) {
  on_both("write", p, 0, 0, [&](int fd, std::string&) { return write(fd, "x", 1); });
  on_both("ftruncate", p, 0, 0, [&](int fd, std::string&) { return ftruncate(fd, 0); });
  on_both("fchdir", p, 0, 0, [&](int fd, std::string&) { return fchdir(fd); });
  on_both("fdopendir", p, 0, 0, [&](int fd, std::string&) { return fdopendir(fd) == nullptr ? -1L : 0L; });
  on_both("isatty", p, 0, 0, [&](int fd, std::string&) { return isatty(fd) - 1; });
}

// A child moves the position that it shares.
void do_fork(Pair& p) {
  size_t n = below(50000);
  on_both("read in a child", p, n, 0, [&](int fd, std::string& b) {
    int pipes[2];
    if (pipe(pipes) != 0) return -1L;
    pid_t child = fork();
    if (child == 0) {
      std::string mine(n, 0);
      ssize_t r = read(fd, mine.data(), n);
      for (size_t done = 0; r > 0 && done < static_cast<size_t>(r);) {
        ssize_t w = write(pipes[1], mine.data() + done, static_cast<size_t>(r) - done);
        if (w <= 0) _exit(3);
        done += static_cast<size_t>(w);
      }
      _exit(r < 0 ? 2 : 0);
    }
    close(pipes[1]);
    char buffer[65536];
    for (ssize_t r; (r = read(pipes[0], buffer, sizeof buffer)) > 0;)
      b.append(buffer, static_cast<size_t>(r));
    close(pipes[0]);
    int status = 0;
    waitpid(child, &status, 0);
    return static_cast<long>(status);
  });
}

// Another program inherits it as its standard input. (Not wc -c: coreutils 9.1 adds up wrongly from a position, by
// st_blksize.)
void do_exec(Pair& p) {
  off_t at = some_offset(p.file);
  static const char* const kPrograms[] = {"head -c 3000", "tail -c +1 | head -c 5000", "tail -c 5000",
                                          "dd bs=1000 count=3 2>/dev/null"};
  const char* program = kPrograms[below(4)];
  for (int side = 0; side < 2; ++side)
    lseek(p.fd[side], at, SEEK_SET);
  Outcome o[2];
  for (int side = 0; side < 2; ++side) {
    o[side] = run([&](std::string& b) {
      int saved = fcntl(0, F_DUPFD_CLOEXEC, 3);
      dup2(p.fd[side], 0);
      FILE* out = popen(program, "r");
      dup2(saved, 0);
      close(saved);
      char buffer[65536];
      for (size_t r; (r = fread(buffer, 1, sizeof buffer, out)) > 0;)
        b.append(buffer, r);
      long status = pclose(out);
      return status;
    });
  }
  compare(program, o[0], o[1], static_cast<unsigned long long>(at));
  for (int side = 0; side < 2; ++side)
    lseek(p.fd[side], at, SEEK_SET);
}

// ---- streams ------------------------------------------------------------------------------------

void open_streams(StreamPair& s) {
  s.file = below(names.size());
  bool by_descriptor = below(3) == 0;
  for (int side = 0; side < 2; ++side) {
    if (s.stream[side]) fclose(s.stream[side]);
    std::string path = roots[side] + "/" + names[s.file];
    s.stream[side] =
        by_descriptor ? fdopen(open(path.c_str(), O_RDONLY | O_CLOEXEC), "rb") : fopen(path.c_str(), "rbe");
    if (!s.stream[side] || fileno(s.stream[side]) < 0) differ("fopen of %s: errno %d", names[s.file].c_str(), errno);
  }
}

long stream_call(FILE* f, std::string& b, int kind, size_t n, off_t at) {
  switch (kind) {
    case 0:
      b.resize(n);
      b.resize(fread(b.data(), 1, n, f));
      return static_cast<long>(b.size());
    case 1:
      return fseeko(f, at, SEEK_SET);
    case 2:
      return fseeko(f, -static_cast<off_t>(n % 5000), SEEK_END);
    case 3:
      return ftello(f);
    case 4: {
      b.resize(3000);
      bool got = fgets(b.data(), 3000, f) != nullptr;
      b.resize(got ? strlen(b.c_str()) : 0);
      return got;
    }
    case 5:
      return getc(f);
    case 6: {
      int c = getc(f);
      return c == EOF ? -2 : ungetc(c, f);
    }
    case 7:
      return feof(f) != 0;
    default: {
      char word[200] = {};
      long r = fscanf(f, "%199s", word);
      b = word;
      return r;
    }
  }
}

void do_stream() {
  StreamPair& s = streams[below(kStreams)];
  if (!s.stream[0] || below(20) == 0) open_streams(s);
  int kind = static_cast<int>(below(9));
  size_t n = below(200000);
  off_t at = some_offset(s.file);
  Outcome o[2];
  for (int side = 0; side < 2; ++side)
    o[side] = run([&](std::string& b) { return stream_call(s.stream[side], b, kind, n, at); });
  if (o[0].r < 0 && kind >= 4) o[0].error = o[1].error = 0;  // EOF is no error
  compare("stdio", o[0], o[1], static_cast<unsigned long long>(kind), n);
  if (ftello(s.stream[0]) != ftello(s.stream[1])) differ("stdio %d: other position", kind);
}

void do_ifstream() {
  size_t file = below(names.size());
  off_t at = some_offset(file);
  std::string got[2];
  for (int side = 0; side < 2; ++side) {
    std::ifstream in(roots[side] + "/" + names[file], std::ios::binary);
    in.seekg(at);
    got[side].resize(100000);
    in.read(got[side].data(), static_cast<std::streamsize>(got[side].size()));
    got[side].resize(static_cast<size_t>(in.gcount()));
  }
  if (got[0] != got[1]) differ("ifstream of %s at %ld", names[file].c_str(), static_cast<long>(at));
}

// ---- mappings -----------------------------------------------------------------------------------

void unmap(MapPair& m) {
  for (char*& base : m.base) {
    if (base) munmap(base, m.length);
    base = nullptr;
  }
}

void make_map(MapPair& m, Pair& p) {
  unmap(m);
  off_t at = some_offset(p.file) & ~off_t{4095};
  if (at >= sizes[p.file]) return;
  m.length = std::min<size_t>(1 + below(4 << 20), static_cast<size_t>(sizes[p.file] - at));
  int flags = below(2) ? MAP_SHARED : MAP_PRIVATE;
  int prot = flags == MAP_PRIVATE && below(2) ? PROT_READ | PROT_WRITE : PROT_READ;
  if (below(8) == 0) flags |= MAP_POPULATE;
  for (int side = 0; side < 2; ++side) {
    void* base = mmap(nullptr, m.length, prot, flags, p.fd[side], at);
    if (base == MAP_FAILED)
      differ("mmap of %zu at %ld on side %d: errno %d", m.length, static_cast<long>(at), side, errno);
    m.base[side] = static_cast<char*>(base);
  }
}

void look_at_map(MapPair& m) {
  size_t from = below(m.length), n = std::min<size_t>(below(300000) + 1, m.length - from);
  if (memcmp(m.base[0] + from, m.base[1] + from, n) != 0)
    differ("mapping: other bytes at %zu, %zu of %zu", from, n, m.length);
}

void change_map(MapPair& m) {
  size_t pages = (m.length + 4095) / 4096;
  switch (below(4)) {
    case 0:
      for (char* base : m.base)
        madvise(base, m.length, MADV_DONTNEED);
      break;
    case 1:
      for (char* base : m.base)
        madvise(base, m.length, MADV_WILLNEED);
      break;
    case 2: {  // a part of it goes
      if (pages < 3) return;
      size_t keep = 1 + below(pages - 1);
      for (char* base : m.base)
        munmap(base + keep * 4096, (pages - keep) * 4096);
      m.length = std::min(m.length, keep * 4096);
      break;
    }
    default:
      for (char*& base : m.base) {
        void* moved = mremap(base, m.length, m.length, MREMAP_MAYMOVE);
        if (moved == MAP_FAILED) differ("mremap: errno %d", errno);
        base = static_cast<char*>(moved);
      }
  }
}

void fork_map(MapPair& m) {
  pid_t child = fork();
  if (child == 0) {
    look_at_map(m);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (status != 0) differ("a child reads a mapping: status %x", static_cast<unsigned>(status));
}

void do_map(Pair& p) {
  MapPair& m = maps[below(kMaps)];
  if (!m.base[0] || below(10) == 0) make_map(m, p);
  if (!m.base[0]) return;
  uint64_t what = below(20);
  if (what == 0)
    fork_map(m);
  else if (what < 4)
    change_map(m);
  else
    look_at_map(m);
}

void one_step(bool with_maps) {
  Pair& p = pairs[below(kPairs)];
  if (!p.open() || below(30) == 0) open_pair(p);
  uint64_t what = below(1000);
  if (what < 120)
    do_small_reads(p);
  else if (what < 220)
    do_read(p);
  else if (what < 420)
    do_pread(p);
  else if (what < 500)
    do_vector(p);
  else if (what < 600)
    do_seek(p);
  else if (what < 620)
    do_hole(p);
  else if (what < 650)
    do_dup(p);
  else if (what < 690)
    do_sendfile(p);
  else if (what < 720)
    do_copy_range(p);
  else if (what < 740)
    do_splice(p);
  else if (what < 760)
    do_advise(p);
  else if (what < 770)
    do_refused(p);
  else if (what < 778)
    do_fork(p);
  else if (what < 782)
    do_exec(p);
  else if (what < 900)
    do_stream();
  else if (what < 910)
    do_ifstream();
  else if (with_maps)
    do_map(p);
  else
    do_pread(p);
}

// More objects than the library's table has places, opened and read by all threads at once.
void one_thread(uint64_t number, uint64_t steps) {
  std::mt19937_64 mine(seed * 1000 + number);
  std::string expected(200000, 0), got(200000, 0);
  for (uint64_t i = 0; i < steps; ++i) {
    const size_t file = mine() % names.size();
    int plain = open((roots[0] + "/" + names[file]).c_str(), O_RDONLY | O_CLOEXEC);
    int ours = open((roots[1] + "/" + names[file]).c_str(), O_RDONLY | O_CLOEXEC);
    if (plain < 0 || ours < 0) differ("thread %llu: open: errno %d", static_cast<unsigned long long>(number), errno);
    if (mine() % 4 == 0) {
      int other = dup(ours);
      close(ours);
      ours = other;
    }
    size_t n = 0;
    off_t at = 0;
    for (int k = 0; k < 64; ++k) {  // four of any size, then small ones in a row
      at += static_cast<off_t>(n);
      if (k < 5) at = static_cast<off_t>(mine() % (static_cast<uint64_t>(sizes[file]) + 1));
      n = k < 4 ? mine() % expected.size() : k == 4 ? 1 + mine() % 6000 : n;
      const ssize_t a = pread(plain, expected.data(), n, at), b = pread(ours, got.data(), n, at);
      if (a != b || (a > 0 && memcmp(expected.data(), got.data(), static_cast<size_t>(a)) != 0))
        differ("thread %llu: pread(%zu, %ld) of %s: %zd and %zd, errno %d", static_cast<unsigned long long>(number), n,
               static_cast<long>(at), names[file].c_str(), a, b, errno);
    }
    close(plain);
    close(ours);
  }
}

void many_threads(uint64_t steps) {
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < 24; ++i)
    threads.emplace_back(one_thread, i, steps);
  for (std::thread& t : threads)
    t.join();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) return fprintf(stderr, "usage: lazy_model PLAIN DATASET SEED STEPS [no-map]\n"), 2;
  roots[0] = argv[1];
  roots[1] = argv[2];
  seed = strtoull(argv[3], nullptr, 10);
  const uint64_t steps = strtoull(argv[4], nullptr, 10);
  const bool with_maps = argc < 6 || strcmp(argv[5], "no-map") != 0;
  rng.seed(seed);
  DIR* dir = opendir(argv[1]);
  if (!dir) return perror(argv[1]), 2;
  while (struct dirent* e = readdir(dir))
    if (e->d_name[0] != '.') names.push_back(e->d_name);
  closedir(dir);
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    struct stat st;
    if (stat((roots[0] + "/" + name).c_str(), &st) != 0) return perror(name.c_str()), 2;
    sizes.push_back(st.st_size);
  }
  if (argc > 5 && strcmp(argv[5], "threads") == 0)
    many_threads(steps);
  else
    for (step = 0; step < steps; ++step)
      one_step(with_maps);
  printf("%llu steps\n", static_cast<unsigned long long>(steps));
}
