// Calls every intercepted function on a tree and prints what it returned, its errno and its side effects, one line a
// call. Run bare on a plain (read-only) tree and preloaded on a dataset of the same content: the lines must be equal.
// The tree (tests/preload/differential_test.py makes it): a/one (1 byte), a/empty, a/big (300,000), a/b/deep/leaf, "sp
// ace/ü%+", n0..n99 in many/. Never prints st_dev, st_ino, owners, access times or a directory's mtime, which may
// differ.
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <ftw.h>
#include <glob.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

#include <algorithm>
#include <string>
#include <vector>

extern "C" {
int __xstat(int, const char*, struct stat*);
int __lxstat(int, const char*, struct stat*);
int __fxstat(int, int, struct stat*);
int __fxstatat(int, int, const char*, struct stat*, int);
int __xstat64(int, const char*, struct stat64*);
int __open_2(const char*, int);
int __open64_2(const char*, int);
int __openat_2(int, const char*, int);
int __openat64_2(int, const char*, int);
ssize_t __readlink_chk(const char*, char*, size_t, size_t);
char* __realpath_chk(const char*, char*, size_t);
char* __getcwd_chk(char*, size_t, size_t);
}

namespace {

// Under qemu-user: programs that this one starts are the host's, and some calls are not there.
bool emulated() {
  return getenv("PROBE_EMULATED") != nullptr;
}

std::string root;
#if defined(__x86_64__)
constexpr int kVer = 1;
#else
constexpr int kVer = 0;
#endif

std::string parent;  // of the root

std::string clean(std::string s) {
  for (size_t at; (at = s.find(root)) != std::string::npos;)
    s.replace(at, root.size(), "$R");
  for (size_t at; (at = s.find(parent)) != std::string::npos;)
    s.replace(at, parent.size(), "$P");
  return s;
}

__attribute__((format(printf, 1, 2))) void say(const char* format, ...) {
  char line[8192];
  va_list ap;
  va_start(ap, format);
  vsnprintf(line, sizeof(line), format, ap);
  va_end(ap);
  puts(clean(line).c_str());
}

const char* err() {
  return errno ? strerrorname_np(errno) : "0";
}

// Prints a call's result: negative with errno, else "ok" and closes nothing.
#define CALL(expr)                                                     \
  do {                                                                 \
    errno = 0;                                                         \
    long r_ = (long)(expr);                                            \
    say("%s = %ld %s", #expr, r_ < 0 ? -1 : r_, r_ < 0 ? err() : "0"); \
  } while (0)

// The same for calls that return a descriptor, which is closed; its number is not printed.
#define FD(expr)                                                                           \
  do {                                                                                     \
    errno = 0;                                                                             \
    int f_ = (expr);                                                                       \
    say("%s = %s %s", #expr, f_ < 0 ? "-1" : "fd", f_ < 0 ? err() : describe(f_).c_str()); \
    if (f_ >= 0) close(f_);                                                                \
  } while (0)

std::string attributes(const struct stat& st) {
  char b[200];
  snprintf(b, sizeof(b), "mode=%o nlink=%lu size=%ld blocks=%ld mtime=%ld.%09ld", st.st_mode,
           (unsigned long)st.st_nlink, (long)st.st_size, (long)st.st_blocks,
           S_ISDIR(st.st_mode) ? 0 : (long)st.st_mtim.tv_sec, S_ISDIR(st.st_mode) ? 0 : st.st_mtim.tv_nsec);
  return b;
}

bool same(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino && a.st_mode == b.st_mode && a.st_nlink == b.st_nlink &&
         a.st_uid == b.st_uid && a.st_gid == b.st_gid && a.st_size == b.st_size && a.st_blocks == b.st_blocks &&
         a.st_blksize == b.st_blksize && a.st_mtim.tv_sec == b.st_mtim.tv_sec && a.st_mtim.tv_nsec == b.st_mtim.tv_nsec;
}

unsigned checksum(const char* p, size_t n) {
  unsigned h = 5381;
  for (size_t i = 0; i < n; ++i)
    h = h * 33 + (unsigned char)p[i];
  return h;
}

std::string describe(int fd) {
  struct stat st;
  if (fstat(fd, &st) != 0) return "fstat failed";
  int flags = fcntl(fd, F_GETFL) & (O_ACCMODE | O_PATH);
  std::string text = attributes(st) + " fl=" + std::to_string(flags) + " cloexec=" + std::to_string(fcntl(fd, F_GETFD));
  if (S_ISREG(st.st_mode) && !(flags & O_PATH)) {
    std::string data(st.st_size + 10, 0);
    ssize_t n = read(fd, data.data(), data.size());
    text += " read=" + std::to_string(n) + " sum=" + std::to_string(n > 0 ? checksum(data.data(), n) : 0);
  }
  return text;
}

std::string P(const char* rel) {
  return root + "/" + rel;
}
#define p(rel) P(rel).c_str()

const char* kPaths[] = {"a/one",
                        "a/empty",
                        "a/big",
                        "a",
                        "",
                        "a/",
                        "a/one/",
                        "a/none",
                        "a/one/x",
                        "none/x",
                        "sp ace/\xc3\xbc%+",
                        "a/b/deep/leaf",
                        "a//b/./deep/leaf",
                        "a/b/../one",
                        "a/b/../../a/one",
                        "a/none/../one",
                        "./a/one",
                        "a/b/deep/..",
                        "many/n7",
                        "a/.",
                        "a/b/."};

void stats() {
  for (const char* rel : kPaths) {
    struct stat st, st2;
    std::string path = P(rel);
    const char* q = path.c_str();
    errno = 0;
    int r = stat(q, &st);
    say("stat %s = %d %s %s", q, r, err(), r == 0 ? attributes(st).c_str() : "");
    int e = errno;
    auto again = [&](const char* what, int r2) {
      if (r2 != r || (r2 == 0 ? !same(st, st2) : errno != e)) say("%s %s differs: %d %s", what, q, r2, err());
    };
    again("lstat", lstat(q, &st2));
    again("stat64", stat64(q, (struct stat64*)&st2));
    again("lstat64", lstat64(q, (struct stat64*)&st2));
    again("fstatat", fstatat(AT_FDCWD, q, &st2, 0));
    again("fstatat64", fstatat64(AT_FDCWD, q, (struct stat64*)&st2, AT_SYMLINK_NOFOLLOW));
    again("__xstat", __xstat(kVer, q, &st2));
    again("__xstat64", __xstat64(kVer, q, (struct stat64*)&st2));
    again("__lxstat", __lxstat(kVer, q, &st2));
    again("__fxstatat", __fxstatat(kVer, AT_FDCWD, q, &st2, 0));
    again("syscall newfstatat", syscall(SYS_newfstatat, AT_FDCWD, q, &st2, 0));
    int fd = open(q, O_RDONLY);
    if (fd >= 0) {
      again("fstat", fstat(fd, &st2));
      again("fstat64", fstat64(fd, (struct stat64*)&st2));
      again("__fxstat", __fxstat(kVer, fd, &st2));
      again("fstatat empty", fstatat(fd, "", &st2, AT_EMPTY_PATH));
      std::string link = "/proc/self/fd/" + std::to_string(fd);
      again("stat /proc/self/fd", stat(link.c_str(), &st2));
      char text[PATH_MAX] = {};
      if (readlink(link.c_str(), text, sizeof(text) - 1) > 0) say("readlink of its descriptor: %s", text);
      close(fd);
    }
    struct statx x;
    errno = 0;
    r = statx(AT_FDCWD, q, 0, STATX_BASIC_STATS, &x);
    say("statx %s = %d %s mode=%o size=%lu nlink=%u", q, r, err(), r ? 0 : x.stx_mode,
        r ? 0ul : (unsigned long)x.stx_size, r ? 0 : x.stx_nlink);
    for (int mode : {F_OK, R_OK, W_OK, X_OK, R_OK | X_OK}) {
      errno = 0;
      r = access(q, mode);
      say("access %s %d = %d %s", q, mode, r, err());
      int e1 = errno;
      if (faccessat(AT_FDCWD, q, mode, 0) != r || errno != e1) say("faccessat differs: %s", err());
      if (euidaccess(q, mode) != r || errno != e1) say("euidaccess differs: %s", err());
    }
  }
  struct stat st;
  CALL(stat("", &st));
  CALL(stat(p(std::string(300, 'x').c_str()), &st));
  CALL(stat(P(std::string(5000, 'x').c_str()).c_str(), &st));
}

void opens() {
  for (const char* rel : kPaths) {
    std::string path = P(rel);
    const char* q = path.c_str();
    say("-- open %s", q);
    FD(open(q, O_RDONLY));
    FD(open64(q, O_RDONLY | O_CLOEXEC));
    FD(openat(AT_FDCWD, q, O_RDONLY | O_NOFOLLOW));
    FD(openat64(AT_FDCWD, q, O_RDONLY | O_DIRECTORY));
    FD(open(q, O_PATH));
    FD(__open_2(q, O_RDONLY));
    FD(__open64_2(q, O_RDONLY));
    FD(__openat_2(AT_FDCWD, q, O_RDONLY));
    FD(__openat64_2(AT_FDCWD, q, O_RDONLY));
    FD((int)syscall(SYS_openat, AT_FDCWD, q, O_RDONLY));
    FD(open(q, O_WRONLY));
    FD(open(q, O_RDWR | O_CLOEXEC));
    FD(open(q, O_RDONLY | O_CREAT, 0644));
    FD(open(q, O_WRONLY | O_CREAT | O_TRUNC, 0644));
    FD(open(q, O_WRONLY | O_CREAT | O_EXCL, 0644));
    FD(open(q, O_RDONLY | O_NONBLOCK));
    FD(creat(q, 0644));
    for (const char* mode : {"r", "rb", "re", "r,ccs=UTF-8", "w", "a", "r+", "z"}) {
      errno = 0;
      FILE* f = fopen(q, mode);
      char text[20] = {};
      size_t n = f && strchr(mode, ',') == nullptr ? fread(text, 1, sizeof(text), f) : 0;
      say("fopen %s %s = %s %s %zu %u", q, mode, f ? "FILE" : "null", f ? "" : err(), n, checksum(text, n));
      if (f) fclose(f);
    }
  }
}

void reads() {
  std::string path = P("a/big");
  int fd = open(path.c_str(), O_RDONLY);
  std::string b(300000, 0);
  CALL(lseek(fd, 1000, SEEK_SET));
  CALL(read(fd, b.data(), 100));
  say("sum %u", checksum(b.data(), 100));
  CALL(pread(fd, b.data(), 5000, 299000));
  say("sum %u", checksum(b.data(), 1000));
  CALL(lseek(fd, 0, SEEK_CUR));
  CALL(lseek(fd, -5, SEEK_END));
  CALL(lseek(fd, 0, SEEK_HOLE));
  CALL(write(fd, "x", 1));
  CALL(ftruncate(fd, 1));
  CALL(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
  void* m = mmap(nullptr, 300000, PROT_READ, MAP_SHARED, fd, 0);
  say("mmap sum %u", m == MAP_FAILED ? 0 : checksum((char*)m, 300000));
  munmap(m, 300000);
  m = mmap(nullptr, 300000, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 4096);
  ((char*)m)[0] = 'x';
  say("private mmap sum %u", checksum((char*)m, 295904));
  munmap(m, 300000);
  struct iovec iov[2] = {{b.data(), 10}, {b.data() + 10, 20}};
  CALL(preadv(fd, iov, 2, 4000));
  int pair[2];
  CALL(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  off_t off = 100;
  CALL(sendfile(pair[0], fd, &off, 1000));
  CALL(read(pair[1], b.data(), 2000));
  say("sendfile sum %u off %ld", checksum(b.data(), 1000), (long)off);
  int d = dup(fd);
  int d2 = fcntl(fd, F_DUPFD_CLOEXEC, 1500);
  struct stat s1, s2;
  fstat(fd, &s1);
  fstat(d2, &s2);
  say("dup same %d above 1024 %d", same(s1, s2), d2 >= 1500);
  close(d2);
  pid_t child = fork();
  if (child == 0) {
    struct stat st;
    bool ok = fstat(d, &st) == 0 && same(st, s1);
    char c;
    ok = ok && pread(d, &c, 1, 0) == 1;
    _exit(ok ? 0 : 1);
  }
  int status;
  waitpid(child, &status, 0);
  say("fork child status %d", status);
  fflush(stdout);
  lseek(fd, 0, SEEK_SET);
  dup2(fd, 0);
  if (system("wc -c; stat -L -c '%s %a %F' /dev/stdin") < 0) say("system failed");
  close(d);
  close(fd);
  FILE* f = fopen(path.c_str(), "r");
  CALL(fseek(f, 1234, SEEK_SET));
  CALL(fgetc(f));
  CALL(fileno(f) >= 0);
  f = freopen(P("a/one").c_str(), "r", f);
  say("freopen %s", f ? "FILE" : err());
  CALL(fgetc(f));
  CALL(fgetc(f));
  f = freopen(P("a/none").c_str(), "r", f);
  say("freopen none %s", f ? "FILE" : err());
}

std::vector<std::string> names(DIR* d) {
  std::vector<std::string> v;
  struct stat st;
  while (struct dirent* e = readdir(d)) {
    bool real =
        fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_ino == e->d_ino || e->d_name[0] == '.');
    v.push_back(std::string(e->d_name) + ":" + std::to_string(e->d_type) + (real ? "" : " INODE"));
  }
  std::sort(v.begin(), v.end());
  return v;
}

void print(const char* what, const std::vector<std::string>& v) {
  std::string s;
  for (auto& x : v)
    s += x + "|";
  say("%s %s", what, s.c_str());
}

std::vector<std::string>* walked;
bool in_place;
int walk(const char* path, const struct stat* st, int type, struct FTW* w) {
  struct stat here;
  if (in_place && (stat(path + w->base, &here) != 0 || here.st_ino != st->st_ino)) walked->push_back("not in place");
  walked->push_back(clean(path) + ":" + std::to_string(type) + ":" + std::to_string(w->level) + ":" +
                    (w->level ? path + w->base : "root") + ":" +
                    std::to_string(S_ISREG(st->st_mode) ? st->st_size : 0));
  return 0;
}
int walk_plain(const char* path, const struct stat* st, int type) {
  walked->push_back(clean(path) + ":" + std::to_string(type) + ":" +
                    std::to_string(S_ISREG(st->st_mode) ? st->st_size : 0));
  return 0;
}
int by_name(const FTSENT** a, const FTSENT** b) {
  return strcmp((*a)->fts_name, (*b)->fts_name);
}
int only_n(const struct dirent* e) {
  return e->d_name[0] == 'n';
}

void directories() {
  for (const char* rel : kPaths) {
    std::string path = P(rel);
    errno = 0;
    DIR* d = opendir(path.c_str());
    say("opendir %s %s", path.c_str(), d ? "ok" : err());
    if (!d) continue;
    print("names", names(d));
    rewinddir(d);
    print("again", names(d));
    CALL(closedir(d));
    int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY);
    DIR* d2 = fdopendir(fd);
    print("fdopendir", names(d2));
    say("dirfd same %d", dirfd(d2) == fd);
    closedir(d2);
    CALL(fcntl(fd, F_GETFD));
    fd = open(path.c_str(), O_RDONLY | O_DIRECTORY);
    char buf[65536];
    std::vector<std::string> raw;
    for (long n; (n = syscall(SYS_getdents64, fd, buf, 300)) > 0;) {
      for (long at = 0; at < n;) {
        auto* e = (struct dirent64*)(buf + at);
        raw.push_back(e->d_name);
        at += e->d_reclen;
      }
    }
    std::sort(raw.begin(), raw.end());
    print("getdents64", raw);
    close(fd);
  }
  DIR* d = opendir(p("many"));
  for (int i = 0; i < 5; ++i)
    readdir(d);
  long at = telldir(d);
  struct dirent* e = readdir(d);
  std::string name = e->d_name;
  while (readdir(d)) {
  }
  seekdir(d, at);
  e = readdir(d);
  say("seekdir %d", e && name == e->d_name);
  struct dirent entry, *result;
  rewinddir(d);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  int count = 0;
  while (readdir_r(d, &entry, &result) == 0 && result)
    ++count;
#pragma GCC diagnostic pop
  say("readdir_r %d", count);
  closedir(d);
  struct dirent** list;
  int n = scandir(p("many"), &list, only_n, alphasort);
  std::vector<std::string> v;
  for (int i = 0; i < n; ++i)
    v.push_back(list[i]->d_name);
  print("scandir", v);
  int dfd = open(root.c_str(), O_RDONLY | O_DIRECTORY);
  n = scandirat(dfd, "a", &list, nullptr, alphasort);
  v.clear();
  for (int i = 0; i < n; ++i)
    v.push_back(list[i]->d_name);
  print("scandirat", v);
  CALL(scandir(p("none"), &list, nullptr, nullptr));
  CALL(scandir(p("a/one"), &list, nullptr, nullptr));

  struct stat st;
  CALL(fstatat(dfd, "a/one", &st, 0));
  CALL(fstatat(dfd, "a/none", &st, 0));
  CALL(fstatat(dfd, "a/../a/big", &st, 0));
  CALL(faccessat(dfd, "a", R_OK, 0));
  FD(openat(dfd, "a/one", O_RDONLY));
  FD(openat(dfd, ".", O_RDONLY | O_DIRECTORY));
  FD(openat(dfd, "a/new", O_WRONLY | O_CREAT, 0644));
  CALL(mkdirat(dfd, "newdir", 0755));
  CALL(unlinkat(dfd, "a/one", 0));
  int sub = openat(dfd, "a/b", O_RDONLY | O_DIRECTORY);
  FD(openat(sub, "deep/leaf", O_RDONLY));
  FD(openat(sub, "../one", O_RDONLY));
  FD(openat(sub, "../../../../../../../../etc/hostname", O_RDONLY | O_DIRECTORY));
  int dupped = dup(sub);
  FD(openat(dupped, "deep", O_RDONLY));
  int regular = open(p("a/one"), O_RDONLY);
  FD(openat(regular, "x", O_RDONLY));
  FD(openat(987, "x", O_RDONLY));
  close(regular);
  close(dupped);
  close(sub);
  close(dfd);

  for (int options : {(int)FTS_PHYSICAL, FTS_PHYSICAL | FTS_NOCHDIR, FTS_LOGICAL | FTS_SEEDOT,
                      FTS_PHYSICAL | FTS_NOSTAT, FTS_PHYSICAL | FTS_XDEV}) {
    char* roots[] = {root.data(), nullptr};
    FTS* fts = fts_open(roots, options, by_name);
    v.clear();
    while (FTSENT* e = fts_read(fts)) {
      if (e->fts_info == FTS_D && strcmp(e->fts_name, "deep") == 0) fts_set(fts, e, FTS_SKIP);
      std::string kids;
      if (e->fts_info == FTS_D && strcmp(e->fts_name, "a") == 0) {
        for (FTSENT* k = fts_children(fts, 0); k; k = k->fts_link)
          kids += std::string(",") + k->fts_name;
      }
      std::string path = clean(e->fts_path);
      if (path.back() == '/') path.pop_back();  // glibc leaves one after fts_children
      v.push_back(
          path + ":" + std::to_string(e->fts_info) + ":" + std::to_string(e->fts_level) + ":" +
          (strcmp(e->fts_name, basename(e->fts_level ? path.c_str() : root.c_str())) == 0 ? "named" : e->fts_name) +
          kids);
    }
    int end = errno;
    say("fts %d ends %d closes %d", options, end, fts_close(fts));
    print("", v);
  }
  char none[] = "/none-such-path";
  char* gone[] = {none, root.data(), nullptr};
  FTS* fts = fts_open(gone, FTS_PHYSICAL | FTS_NOCHDIR, nullptr);
  FTSENT* first = fts_read(fts);
  say("fts missing %d %d", first->fts_info, first->fts_errno);
  fts_close(fts);

  glob_t g;
  for (const char* pattern : {"*/*", "many/n[0-4]", "a/b*/d?ep/*", "none*", "a/one", "*ace/*"}) {
    int r = glob(p(pattern), GLOB_MARK, nullptr, &g);
    v.clear();
    for (size_t i = 0; r == 0 && i < g.gl_pathc; ++i)
      v.push_back(clean(g.gl_pathv[i]));
    say("glob %s %d", pattern, r);
    print("", v);
    globfree(&g);
  }
  for (int flags : {0, (int)FTW_PHYS, FTW_DEPTH | FTW_PHYS, (int)FTW_MOUNT, FTW_CHDIR | FTW_PHYS}) {
    std::vector<std::string> w;
    walked = &w;
    in_place = (flags & FTW_CHDIR) != 0;
    int r = nftw(root.c_str(), walk, 10, flags);
    std::sort(w.begin(), w.end());
    in_place = false;
    say("nftw %d = %d", flags, r);
    print("", w);
  }
  std::vector<std::string> w;
  walked = &w;
  ftw(root.c_str(), walk_plain, 10);
  std::sort(w.begin(), w.end());
  print("ftw", w);
  errno = 0;
  int missing = nftw(p("none"), walk, 10, 0);
  say("nftw none %d %s", missing, err());
}

void current_directory() {
  char b[PATH_MAX];
  int home = open(".", O_RDONLY | O_DIRECTORY);
  struct stat st;
  for (const char* rel : {"a", "", "a/b/deep", "a/one", "none", "sp ace"}) {
    CALL(chdir(p(rel)));
    say("getcwd %s", getcwd(b, sizeof(b)) ? b : err());
    char* name = getcwd(nullptr, 0);
    say("getcwd null %s", name);
    free(name);
    CALL(getcwd(b, 3) == nullptr);
    say("get_current_dir_name %s", name = get_current_dir_name());
    free(name);
    CALL(stat(".", &st));
    CALL(stat("one", &st));
    CALL(stat("../a/one", &st));
    FD(open("b/deep/leaf", O_RDONLY));
    say("realpath %s", realpath(".", b) ? b : err());
    say("realpath %s", realpath("..", b) ? b : err());
    DIR* d = opendir(".");
    print("list", names(d));
    closedir(d);
    fflush(stdout);
    if (!emulated() && system("pwd; ls | head -3; cat one 2>/dev/null | wc -c") < 0) say("system failed");
  }
  CALL(chdir(p("a/b/deep")));
  CALL(chdir(".."));
  say("cwd %s", getcwd(b, sizeof(b)));
  CALL(chdir("../../a"));
  say("cwd %s", getcwd(b, sizeof(b)));
  int fd = open("b", O_RDONLY | O_DIRECTORY);
  CALL(fchdir(fd));
  say("cwd %s", getcwd(b, sizeof(b)));
  close(fd);
  pid_t child = vfork();
  if (child == 0) {
    if (chdir("/") != 0) _exit(9);
    _exit(0);
  }
  int status;
  waitpid(child, &status, 0);
  say("after vfork child %d cwd %s", status, getcwd(b, sizeof(b)));
  CALL(stat("deep/leaf", &st));
  CALL(fchdir(home));
  close(home);
}

void links() {
  char b[PATH_MAX];
  for (const char* rel : kPaths) {
    std::string path = P(rel);
    CALL(readlink(path.c_str(), b, sizeof(b)));
    CALL(__readlink_chk(path.c_str(), b, sizeof(b), sizeof(b)));
    errno = 0;
    say("realpath %s = %s", path.c_str(), realpath(path.c_str(), b) ? b : err());
    errno = 0;
    char* c = canonicalize_file_name(path.c_str());
    say("canonicalize %s = %s", path.c_str(), c ? c : err());
    free(c);
  }
  // From outside into the tree.
  char dir[] = "/tmp/larder-probe-XXXXXX";
  if (!mkdtemp(dir)) return;
  std::string in = std::string(dir) + "/in", file = std::string(dir) + "/file", loop = std::string(dir) + "/loop",
              rel = std::string(dir) + "/rel";
  CALL(symlink(root.c_str(), in.c_str()));
  CALL(symlink(P("a/one").c_str(), file.c_str()));
  CALL(symlink(loop.c_str(), loop.c_str()));
  CALL(symlink("in/a", rel.c_str()));
  struct stat st;
  CALL(stat(file.c_str(), &st));
  say("size %ld", (long)st.st_size);
  CALL(lstat(file.c_str(), &st));
  say("is link %d", S_ISLNK(st.st_mode));
  CALL(stat((in + "/a/big").c_str(), &st));
  say("size %ld", (long)st.st_size);
  FD(open((in + "/a/big").c_str(), O_RDONLY));
  FD(open(file.c_str(), O_RDONLY));
  FD(open((in + "/a/none").c_str(), O_RDONLY));
  FD(open((in + "/a/one/x").c_str(), O_RDONLY));
  FD(open((rel + "/one").c_str(), O_RDONLY));
  FD(open((rel + "/../many/n3").c_str(), O_RDONLY));
  FD(open((in + "/../many").c_str(), O_RDONLY));
  FD(open(loop.c_str(), O_RDONLY));
  FD(open(file.c_str(), O_WRONLY));
  FD(open((in + "/new").c_str(), O_WRONLY | O_CREAT, 0644));
  CALL(access((in + "/a").c_str(), W_OK));
  CALL(mkdir((in + "/new").c_str(), 0755));
  CALL(unlink((in + "/a/one").c_str()));
  say("realpath %s", realpath((rel + "/b").c_str(), b) ? b : err());
  DIR* d = opendir(in.c_str());
  say("opendir %s", d ? "ok" : err());
  if (d) print("names", names(d)), closedir(d);
  CALL(chdir(in.c_str()));
  say("cwd %s", getcwd(b, sizeof(b)));
  CALL(chdir("/"));
  FILE* f = fopen(file.c_str(), "r");
  say("fopen %s %d", f ? "ok" : err(), f ? fgetc(f) : 0);
  if (f) fclose(f);
  for (auto& x : {in, file, loop, rel})
    unlink(x.c_str());
  CALL(rmdir(dir));
}

void writes() {
  struct timespec ts[2] = {{1, 0}, {2, 0}};
  struct timeval tv[2] = {{1, 0}, {2, 0}};
  for (const char* rel : {"a/one", "a", "a/none", "none/x", "a/one/x", ""}) {
    std::string path = P(rel), other = P("many/n1"), fresh = P("many/fresh");
    const char* q = path.c_str();
    say("-- write %s", q);
    CALL(unlink(q));
    CALL(unlinkat(AT_FDCWD, q, AT_REMOVEDIR));
    CALL(mkdir(q, 0755));
    CALL(mkfifo(q, 0644));
    CALL(mknod(q, S_IFREG | 0644, 0));
    CALL(symlink("x", q));
    CALL(link(q, fresh.c_str()));
    CALL(link(other.c_str(), q));
    CALL(truncate(q, 0));
    CALL(chmod(q, 0600));
    CALL(fchmodat(AT_FDCWD, q, 0600, 0));
    CALL(chown(q, 0, 0));
    CALL(lchown(q, 0, 0));
    CALL(fchownat(AT_FDCWD, q, 0, 0, 0));
    CALL(utimes(q, tv));
    CALL(utime(q, nullptr));
    CALL(utimensat(AT_FDCWD, q, ts, 0));
    CALL(setxattr(q, "user.x", "y", 1, 0));
    CALL(removexattr(q, "user.x"));
    char v[10];
    CALL(getxattr(q, "user.x", v, sizeof(v)));
    CALL(listxattr(q, v, sizeof(v)));
  }
  // File systems differ in which of several errors comes first here; all of them fail.
  say("rename in place %d", rename(p("a/one"), p("a/two")) == -1 && errno == EROFS);
  say("rename out %d", rename(p("a/one"), "/tmp/larder-probe-out") == -1 && errno == EXDEV);
  say("rmdir %d", rmdir(p("a")) == -1 && errno == EROFS);
  say("remove %d", remove(p("a/one")) == -1 && errno == EROFS);
  int fd = open(p("a/one"), O_RDONLY);
  CALL(fchmod(fd, 0600));
  CALL(futimens(fd, ts));
  CALL(fchown(fd, 0, 0));
  close(fd);
  struct statvfs vfs;
  CALL(statvfs(root.c_str(), &vfs));
  say("read-only %d namemax %lu", (vfs.f_flag & ST_RDONLY) != 0, vfs.f_namemax);
  fd = open(p("a/one"), O_RDONLY);
  CALL(fstatvfs(fd, &vfs));
  // S11: `statfs` says read-only, with the dataset's size.
  say("read-only %d", (vfs.f_flag & ST_RDONLY) != 0);
  close(fd);
  struct statfs fs;
  CALL(statfs(p("none"), &fs));
  CALL(pathconf(p("a"), _PC_NAME_MAX));
  CALL(pathconf(p("none"), _PC_NAME_MAX));
  int in = inotify_init1(IN_CLOEXEC);
  CALL(inotify_add_watch(in, p("a/one"), IN_MODIFY) > 0);
  CALL(inotify_add_watch(in, p("a/none"), IN_MODIFY));
  close(in);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  root = argv[1];
  parent = root.substr(0, root.rfind('/'));
  setvbuf(stdout, nullptr, _IOLBF, 0);
  std::string only = argc > 2 ? argv[2] : "";
  struct {
    const char* name;
    void (*run)();
  } parts[] = {{"stats", stats},           {"opens", opens}, {"reads", reads},  {"directories", directories},
               {"cwd", current_directory}, {"links", links}, {"writes", writes}};
  for (auto& part : parts) {
    if (!only.empty() && only != part.name) continue;
    say("== %s", part.name);
    part.run();
  }
  return 0;
}
