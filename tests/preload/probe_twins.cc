// The twins: every intercepted function that probe.cc does not call (other widths of off_t, fortified entry points,
// glibc's internal names, at-forms, exec's family). probe_twins ROOT: one line a call, equal bare and preloaded.
// differential_test.py checks that the two probes together call every function of preload/base/symbols.def.
#include <aio.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <ftw.h>
#include <glob.h>
#include <limits.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

extern char** environ;
extern "C" {
int __open(const char*, int, ...);
int __open64(const char*, int, ...);
FILE* _IO_fopen(const char*, const char*);
FILE* _IO_fdopen(int, const char*);
int __lxstat64(int, const char*, struct stat64*);
int __fxstat64(int, int, struct stat64*);
int __fxstatat64(int, int, const char*, struct stat64*, int);
int __statfs(const char*, struct statfs*);
char* __getcwd_chk(char*, size_t, size_t);
char* __getwd_chk(char*, size_t);
ssize_t __readlinkat_chk(int, const char*, char*, size_t, size_t);
char* __realpath_chk(const char*, char*, size_t);
int __xmknod(int, const char*, mode_t, dev_t*);
int __xmknodat(int, int, const char*, mode_t, dev_t*);
ssize_t __read(int, void*, size_t);
ssize_t __read_chk(int, void*, size_t, size_t);
ssize_t __pread64(int, void*, size_t, off64_t);
ssize_t __pread_chk(int, void*, size_t, off_t, size_t);
ssize_t __pread64_chk(int, void*, size_t, off64_t, size_t);
off_t __lseek(int, off_t, int);
int __close(int);
off64_t old_llseek(int, off64_t, int);  // programs of old still call it; new ones cannot be linked to it
int __dup2(int, int);
int __fcntl(int, int, ...);
}
#if defined(__x86_64__)
__asm__(".symver old_llseek, llseek@GLIBC_2.2.5");
#else
__asm__(".symver old_llseek, llseek@GLIBC_2.17");
#endif
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace {

// Under qemu-user: programs that this one starts are the host's, and some calls are not there.
bool emulated() {
  return getenv("PROBE_EMULATED") != nullptr;
}

#if defined(__x86_64__)
constexpr int kStatVersion = 1;
#else
constexpr int kStatVersion = 0;
#endif

std::string root, parent;
char bytes[1 << 16];

std::string clean(std::string s) {
  for (size_t at; (at = s.find(root)) != std::string::npos;)
    s.replace(at, root.size(), "$R");
  for (size_t at; (at = s.find(parent)) != std::string::npos;)
    s.replace(at, parent.size(), "$P");
  return s;
}
void say(const std::string& text) {
  puts(clean(text).c_str());
}

unsigned sum(const char* p, long n) {
  unsigned h = 5381;
  for (long i = 0; i < n; ++i)
    h = h * 33 + static_cast<unsigned char>(p[i]);
  return h;
}

// Prints an expression's value: -1 with errno.
#define CALL(expr)                                                                                                 \
  do {                                                                                                             \
    errno = 0;                                                                                                     \
    long r_ = static_cast<long>(expr);                                                                             \
    say(std::string(#expr) + " = " + (r_ < 0 ? std::string("-1 ") + strerrorname_np(errno) : std::to_string(r_))); \
  } while (0)
// Whether it fails, and how; other return values are not compared.
#define FAILS(expr) CALL((expr) < 0 ? -1 : 0)
// A descriptor: what is in it.
#define FD(expr)                                                                                     \
  do {                                                                                               \
    errno = 0;                                                                                       \
    int f_ = expr;                                                                                   \
    int e_ = errno;                                                                                  \
    long n_ = f_ >= 0 ? read(f_, bytes, sizeof(bytes)) : 0;                                          \
    say(std::string(#expr) + " = " +                                                                 \
        (f_ < 0 ? strerrorname_np(e_) : std::to_string(n_) + " " + std::to_string(sum(bytes, n_)))); \
    if (f_ >= 0) close(f_);                                                                          \
  } while (0)
// How many bytes came, and which.
#define BYTES(expr)                                   \
  do {                                                \
    memset(bytes, 0, 1000);                           \
    CALL(expr);                                       \
    say("  sum " + std::to_string(sum(bytes, 1000))); \
  } while (0)
#define FILE_OF(expr)                                                                                               \
  do {                                                                                                              \
    errno = 0;                                                                                                      \
    FILE* f_ = expr;                                                                                                \
    int e_ = errno;                                                                                                 \
    size_t n_ = f_ ? fread(bytes, 1, 1000, f_) : 0;                                                                 \
    say(std::string(#expr) + " = " +                                                                                \
        (f_ ? std::to_string(n_) + " " + std::to_string(sum(bytes, static_cast<long>(n_))) : strerrorname_np(e_))); \
    if (f_) fclose(f_);                                                                                             \
  } while (0)
#define TEXT(expr)                                                        \
  do {                                                                    \
    errno = 0;                                                            \
    const char* t_ = expr;                                                \
    say(std::string(#expr) + " = " + (t_ ? t_ : strerrorname_np(errno))); \
  } while (0)

// What a stat said, of the fields that a plain folder and a dataset agree in.
template <typename Stat>
std::string text_of(const Stat& st) {
  return std::to_string(st.st_mode) + " " + std::to_string(st.st_size) + " " + std::to_string(st.st_nlink) + " " +
         std::to_string(st.st_blocks) + " " + (S_ISREG(st.st_mode) ? std::to_string(st.st_mtim.tv_sec) : "");
}

void list(const char* what, std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  std::string all = what;
  for (auto& n : names)
    all += " " + n;
  say(all);
}

// ---- one path, every function that takes one ----------------------------------------------------

void looking(const char* p) {
  struct stat64 s64;
  struct statfs fs;
  struct statfs64 fs64;
  struct statvfs64 vfs64;
  char text[PATH_MAX + 1] = {};
  say("-- " + std::string(p));
  FD(__open(p, O_RDONLY));
  FD(__open64(p, O_RDONLY));
  FILE_OF(fopen64(p, "r"));
  FILE_OF(_IO_fopen(p, "r"));
  FILE_OF(freopen64(p, "r", fopen("/dev/null", "r")));
  CALL(__lxstat64(kStatVersion, p, &s64));
  say("  " + (errno == 0 ? text_of(s64) : ""));
  CALL(__fxstatat64(kStatVersion, AT_FDCWD, p, &s64, 0));
  say("  " + (errno == 0 ? text_of(s64) : ""));
  FAILS(ftok(p, 7));
  CALL(eaccess(p, R_OK));
  CALL(eaccess(p, X_OK));
  CALL(statfs64(p, &fs64));
  CALL(__statfs(p, &fs));
  CALL(statvfs64(p, &vfs64));
  say("  " + (errno == 0 ? std::to_string(vfs64.f_flag & ST_RDONLY) + " " + std::to_string(vfs64.f_namemax) : ""));
  CALL(lgetxattr(p, "user.none", bytes, 10));
  CALL(llistxattr(p, bytes, 10));
  CALL(readlinkat(AT_FDCWD, p, text, PATH_MAX));
  CALL(__readlinkat_chk(AT_FDCWD, p, text, PATH_MAX, sizeof(text)));
  TEXT(__realpath_chk(p, text, PATH_MAX));
}

std::vector<std::string> walked;
int walk64(const char* path, const struct stat64* st, int type, struct FTW* w) {
  walked.push_back(std::string(path) + ":" + std::to_string(type) + ":" + std::to_string(w->level) + ":" +
                   std::to_string(S_ISREG(st->st_mode) ? st->st_size : 0));
  return 0;
}
int plain64(const char*, const struct stat64*, int type) {
  return type == FTW_F || type == FTW_D ? 0 : 1;
}
int names64(const struct dirent64** a, const struct dirent64** b) {
  return strcmp((*a)->d_name, (*b)->d_name);
}

void listing(const char* p) {
  say("-- list " + std::string(p));
  std::vector<std::string> v;
  DIR* d = opendir(p);
  while (struct dirent64* e = d ? readdir64(d) : nullptr)
    v.push_back(e->d_name + std::to_string(e->d_type));
  list("readdir64", v);
  v.clear();
  struct dirent64 entry, *next;
  if (d) rewinddir(d);
  while (d && readdir64_r(d, &entry, &next) == 0 && next)
    v.push_back(entry.d_name);
  list("readdir64_r", v);
  if (d) closedir(d);
  struct dirent64** found = nullptr;
  for (int at = 0; at < 2; ++at) {
    v.clear();
    errno = 0;
    int n = at ? scandirat64(AT_FDCWD, p, &found, nullptr, names64) : scandir64(p, &found, nullptr, names64);
    for (int i = 0; i < n; ++i)
      v.push_back(found[i]->d_name), free(found[i]);
    if (n >= 0) free(found);
    list(n < 0 ? strerrorname_np(errno) : "scandir64", v);
  }
  long (*const calls[])(int) = {[](int fd) -> long { return getdents64(fd, bytes, 500); },
                                [](int fd) -> long {
                                  off_t base = 0;
                                  return getdirentries(fd, bytes, 500, &base);
                                },
                                [](int fd) -> long {
                                  off64_t base = 0;
                                  return getdirentries64(fd, bytes, 500, &base);
                                }};
  for (auto call : calls) {
    int fd = open(p, O_RDONLY);
    v.clear();
    long n = 0;
    while (fd >= 0 && (n = call(fd)) > 0) {
      for (long i = 0; i < n;) {
        auto* e = reinterpret_cast<struct dirent64*>(bytes + i);
        v.push_back(e->d_name);
        i += e->d_reclen;
      }
    }
    list(n < 0 ? strerrorname_np(errno) : "getdents", v);
    if (fd >= 0) close(fd);
  }
  glob64_t g;
  std::string pattern = std::string(p) + "/*e*";
  CALL(glob64(pattern.c_str(), 0, nullptr, &g));
  v.clear();
  for (size_t i = 0; i < g.gl_pathc; ++i)
    v.push_back(g.gl_pathv[i]);
  list("glob64", v);
  globfree64(&g);
  CALL(ftw64(p, plain64, 5));
  walked.clear();
  CALL(nftw64(p, walk64, 5, FTW_PHYS));
  list("nftw64", walked);
  char* roots[] = {const_cast<char*>(p), nullptr};
  FTS64* fts = fts64_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, nullptr);
  v.clear();
  int kids = 0, skipped = 0;
  while (FTSENT64* e = fts ? fts64_read(fts) : nullptr) {
    v.push_back(std::string(e->fts_path) + ":" + std::to_string(e->fts_info));
    if (e->fts_info == FTS_D && e->fts_level == 0)
      for (FTSENT64* c = fts64_children(fts, 0); c; c = c->fts_link)
        ++kids;
    if (e->fts_info == FTS_D && strcmp(e->fts_name, "deep") == 0 && e->fts_level > 0)
      skipped += fts64_set(fts, e, FTS_SKIP) == 0;
  }
  list("fts64", v);
  say("fts64 " + std::to_string(kids) + " " + std::to_string(skipped) + " " +
      std::to_string(fts ? fts64_close(fts) : -1));
}

// ---- descriptors --------------------------------------------------------------------------------

void mapping(int fd) {
  struct stat st;
  void* (*const maps[])(void*, size_t, int, int, int, off_t) = {
      mmap, reinterpret_cast<void* (*)(void*, size_t, int, int, int, off_t)>(mmap64)};
  for (auto map : maps) {
    for (int flags : {MAP_PRIVATE, MAP_SHARED}) {
      size_t size = fstat(fd, &st) == 0 && st.st_size > 0 ? static_cast<size_t>(st.st_size) : 1;
      auto* m = static_cast<char*>(map(nullptr, size, PROT_READ, flags, fd, 0));
      say(m == MAP_FAILED   ? strerrorname_np(errno)
          : st.st_size == 0 ? "empty"
                            : "mapped " + std::to_string(sum(m, st.st_size)));
      if (m == MAP_FAILED) continue;
      CALL(madvise(m, size, MADV_RANDOM));
      CALL(posix_madvise(m, size, POSIX_MADV_WILLNEED));
      auto* moved = static_cast<char*>(mremap(m, size, size + 8192, MREMAP_MAYMOVE));
      say(moved == MAP_FAILED ? strerrorname_np(errno)
          : st.st_size == 0   ? "empty"
                              : "moved " + std::to_string(sum(moved, st.st_size)));
      CALL(munmap(moved, size + 8192));
    }
  }
  struct aiocb control = {};
  struct aiocb64 control64 = {};
  control.aio_fildes = control64.aio_fildes = fd;
  control.aio_buf = control64.aio_buf = bytes;
  control.aio_nbytes = control64.aio_nbytes = 100;
  memset(bytes, 0, 1000);
  CALL(aio_read(&control));
  while (aio_error(&control) == EINPROGRESS)
    usleep(100);
  CALL(aio_read64(&control64));
  while (aio_error64(&control64) == EINPROGRESS)
    usleep(100);
  CALL(aio_return(&control) + 1000 * aio_return64(&control64));
  say("aio " + std::to_string(sum(bytes, 1000)));
}

void reading(const char* p) {
  say("-- read " + std::string(p));
  int fd = open(p, O_RDONLY), to = memfd_create("probe", 0);
  struct iovec iov[2] = {{bytes, 100}, {bytes + 100, 300}};
  BYTES(__read(fd, bytes, 100));
  BYTES(__read_chk(fd, bytes, 100, sizeof(bytes)));
  BYTES(readv(fd, iov, 2));
  BYTES(pread64(fd, bytes, 100, 5));
  BYTES(__pread64(fd, bytes, 100, 6));
  BYTES(__pread_chk(fd, bytes, 100, 7, sizeof(bytes)));
  BYTES(__pread64_chk(fd, bytes, 100, 8, sizeof(bytes)));
  BYTES(preadv64(fd, iov, 2, 9));
  BYTES(preadv2(fd, iov, 2, 10, 0));
  BYTES(preadv64v2(fd, iov, 2, -1, 0));
  CALL(lseek64(fd, 3, SEEK_SET));
  CALL(__lseek(fd, 3, SEEK_CUR));
  CALL(old_llseek(fd, 0, SEEK_END) >= 0 ? 0 : -1);
  off64_t at = 1;
  CALL(sendfile64(to, fd, &at, 50));
  CALL(lseek64(fd, 0, SEEK_SET) >= 0 ? 0 : -1);
  CALL(__close(dup(fd)));
  CALL(__close(-1));
  int ends[2];
  if (pipe(ends) != 0) exit(1);
  CALL(splice(fd, nullptr, ends[1], nullptr, 40, 0));
  CALL(close(ends[0]) + close(ends[1]));
  FAILS(copy_file_range(fd, nullptr, to, nullptr, 30, 0));
  BYTES(pread(to, bytes, 50, 0));
  FAILS(readahead(fd, 0, 100));
  CALL(posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED));
  CALL(posix_fadvise64(fd, 0, 0, POSIX_FADV_SEQUENTIAL));
  close(to);
  mapping(fd);
  CALL(__dup2(fd, 70));
  CALL(dup3(fd, 71, O_CLOEXEC));
  CALL(fcntl64(71, F_GETFD));
  CALL(__fcntl(70, F_GETFD));
  lseek(fd, 0, SEEK_SET);
  FD(70);
  FD(71);
  struct stat64 s64;
  CALL(__fxstat64(kStatVersion, fd, &s64));
  say("  " + text_of(s64));
  struct statfs fs;
  struct statfs64 fs64;
  struct statvfs vfs;
  struct statvfs64 vfs64;
  CALL(fstatfs(fd, &fs));
  CALL(fstatfs64(fd, &fs64));
  CALL(fstatvfs(fd, &vfs));
  CALL(fstatvfs64(fd, &vfs64));
  CALL(vfs64.f_flag & ST_RDONLY);
  CALL(fgetxattr(fd, "user.none", bytes, 10));
  CALL(flistxattr(fd, bytes, 10));
  CALL(fsetxattr(fd, "user.x", "y", 1, 0));
  CALL(fremovexattr(fd, "user.x"));
  CALL(fpathconf(fd, _PC_NAME_MAX));
  struct timeval tv[2] = {};
  CALL(futimes(fd, tv));
  lseek(fd, 0, SEEK_SET);
  FILE_OF(fdopen(dup(fd), "r"));
  lseek(fd, 0, SEEK_SET);
  FILE_OF(_IO_fdopen(dup(fd), "r"));
  int fan = fanotify_init(FAN_CLOEXEC, O_RDONLY);
  CALL(fan >= 0 ? 0 : -1);
  if (!emulated()) {
    CALL(fanotify_mark(fan, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, p));
    CALL(fanotify_mark(fan, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, (root + "/none").c_str()));
  }
  close(fan);
  close(fd);
}

// ---- changes ------------------------------------------------------------------------------------

void changing(const char* p) {
  say("-- change " + std::string(p));
  struct timeval tv[2] = {};
  dev_t dev = 0;
  std::string other = root + "/many/fresh";
  CALL(creat64(p, 0644));
  CALL(mknodat(AT_FDCWD, p, S_IFREG | 0644, 0));
  CALL(__xmknod(0, p, S_IFREG | 0644, &dev));
  CALL(__xmknodat(0, AT_FDCWD, p, S_IFREG | 0644, &dev));
  CALL(mkfifoat(AT_FDCWD, p, 0644));
  CALL(symlinkat("x", AT_FDCWD, p));
  CALL(linkat(AT_FDCWD, p, AT_FDCWD, other.c_str(), 0));
  FAILS(renameat(AT_FDCWD, p, AT_FDCWD, other.c_str()));
  FAILS(renameat2(AT_FDCWD, p, AT_FDCWD, other.c_str(), 1));
  CALL(truncate64(p, 0));
  FAILS(lchmod(p, 0600));
  CALL(lutimes(p, tv));
  CALL(futimesat(AT_FDCWD, p, tv));
  CALL(lsetxattr(p, "user.x", "y", 1, 0));
  CALL(lremovexattr(p, "user.x"));
  FAILS(chroot((std::string(p) + "/none").c_str()));
  int (*const temporary[])(char*) = {mkstemp,
                                     mkstemp64,
                                     [](char* t) { return mkostemp(t, O_CLOEXEC); },
                                     [](char* t) { return mkostemp64(t, O_CLOEXEC); },
                                     [](char* t) { return mkstemps(t, 0); },
                                     [](char* t) { return mkstemps64(t, 0); },
                                     [](char* t) { return mkostemps(t, 0, O_CLOEXEC); },
                                     [](char* t) { return mkostemps64(t, 0, O_CLOEXEC); }};
  for (auto make : temporary) {
    std::string name = std::string(p) + "/tXXXXXX";
    CALL(make(name.data()));
  }
  struct {
    struct file_handle h;
    char room[128];
  } handle;
  handle.h.handle_bytes = 0;
  int id;
  // The content of a handle depends on the file system; the error for a wrong path does not.
  int r = name_to_handle_at(AT_FDCWD, p, &handle.h, &id, 0);
  say(std::string("name_to_handle_at ") +
      (r < 0 && (errno == EOPNOTSUPP || errno == EOVERFLOW) ? "there" : strerrorname_np(errno)));
}

// ---- as system calls ----------------------------------------------------------------------------

void raw(const char* p) {
  say("-- raw " + std::string(p));
  struct stat st;
  struct statfs fs;
  int fd = open(p, O_RDONLY);
  char* argv[] = {const_cast<char*>("x"), nullptr};
  FD(static_cast<int>(syscall(SYS_openat, AT_FDCWD, p, O_RDONLY)));
  CALL(syscall(SYS_newfstatat, AT_FDCWD, p, &st, 0));
  CALL(syscall(SYS_fstat, fd, &st));
  CALL(syscall(SYS_faccessat, AT_FDCWD, p, W_OK));
  CALL(syscall(SYS_readlinkat, AT_FDCWD, p, bytes, 100));
  CALL(syscall(SYS_statfs, p, &fs));
  CALL(syscall(SYS_fstatfs, fd, &fs));
  BYTES(syscall(SYS_read, fd, bytes, 50));
  BYTES(syscall(SYS_pread64, fd, bytes, 50, 1L));
  CALL(syscall(SYS_getxattr, p, "user.none", bytes, 10));
  CALL(syscall(SYS_lgetxattr, p, "user.none", bytes, 10));
  CALL(syscall(SYS_fgetxattr, fd, "user.none", bytes, 10));
  CALL(syscall(SYS_listxattr, p, bytes, 10));
  CALL(syscall(SYS_llistxattr, p, bytes, 10));
  CALL(syscall(SYS_flistxattr, fd, bytes, 10));
  CALL(syscall(SYS_setxattr, p, "user.x", "y", 1, 0));
  CALL(syscall(SYS_lsetxattr, p, "user.x", "y", 1, 0));
  CALL(syscall(SYS_fsetxattr, fd, "user.x", "y", 1, 0));
  CALL(syscall(SYS_removexattr, p, "user.x"));
  CALL(syscall(SYS_lremovexattr, p, "user.x"));
  CALL(syscall(SYS_fremovexattr, fd, "user.x"));
  CALL(syscall(SYS_mkdirat, AT_FDCWD, p, 0755));
  CALL(syscall(SYS_mknodat, AT_FDCWD, p, S_IFREG | 0644, 0));
  CALL(syscall(SYS_symlinkat, "x", AT_FDCWD, p));
  CALL(syscall(SYS_truncate, p, 0L));
  CALL(syscall(SYS_fchmodat, AT_FDCWD, p, 0600));
  CALL(syscall(SYS_fchownat, AT_FDCWD, p, 0, 0, 0));
  CALL(syscall(SYS_fchmod, fd, 0600));
  CALL(syscall(SYS_utimensat, AT_FDCWD, p, nullptr, 0));
  FAILS(syscall(SYS_unlinkat, AT_FDCWD, p, 0));
  FAILS(syscall(SYS_chroot, (std::string(p) + "/none").c_str()));
  CALL(syscall(SYS_execve, p, argv, environ));
  if (!emulated()) CALL(syscall(SYS_execveat, AT_FDCWD, p, argv, environ, 0));
#if defined(__x86_64__)
  FD(static_cast<int>(syscall(SYS_open, p, O_RDONLY)));
  CALL(syscall(SYS_creat, p, 0644));
  CALL(syscall(SYS_stat, p, &st));
  CALL(syscall(SYS_lstat, p, &st));
  CALL(syscall(SYS_access, p, R_OK));
  CALL(syscall(SYS_mkdir, p, 0755));
  CALL(syscall(SYS_mknod, p, S_IFREG | 0644, 0));
  CALL(syscall(SYS_chmod, p, 0600));
  CALL(syscall(SYS_chown, p, 0, 0));
  CALL(syscall(SYS_lchown, p, 0, 0));
  CALL(syscall(SYS_utime, p, nullptr));
  CALL(syscall(SYS_utimes, p, nullptr));
  CALL(syscall(SYS_futimesat, AT_FDCWD, p, nullptr));
#endif
  close(fd);
}

// ---- programs -----------------------------------------------------------------------------------

// In a child: exec's error, or what the program did.
template <typename Exec>
void child(const char* what, Exec exec) {
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    errno = 0;
    exec();
    _exit(100 + (errno == EACCES ? 1 : errno == ENOENT ? 2 : errno == ENOTDIR ? 3 : 9));
  }
  int status = 0;
  waitpid(pid, &status, 0);
  say(std::string(what) + " " + std::to_string(WIFEXITED(status) ? WEXITSTATUS(status) : -1));
}

void executing(const char* p) {
  say("-- execute " + std::string(p));
  char* argv[] = {const_cast<char*>("x"), nullptr};
  child("execve", [&] { execve(p, argv, environ); });
  child("execv", [&] { execv(p, argv); });
  child("execvp", [&] { execvp(p, argv); });
  child("execvpe", [&] { execvpe(p, argv, environ); });
  child("execl", [&] { execl(p, "x", static_cast<char*>(nullptr)); });
  child("execlp", [&] { execlp(p, "x", static_cast<char*>(nullptr)); });
  child("execle", [&] { execle(p, "x", static_cast<char*>(nullptr), environ); });
  if (!emulated()) child("execveat", [&] { execveat(AT_FDCWD, p, argv, environ, 0); });
  child("fexecve", [&] { fexecve(open(p, O_RDONLY), argv, environ); });
  say(std::string("dlopen ") + (dlopen(p, RTLD_NOW) ? "loaded" : "refused"));
  if (emulated()) return;
  pid_t pid;
  say(std::string("posix_spawn ") + strerrorname_np(posix_spawn(&pid, p, nullptr, nullptr, argv, environ)));
  say(std::string("posix_spawnp ") + strerrorname_np(posix_spawnp(&pid, p, nullptr, nullptr, argv, environ)));
}

// A child whose file actions set its standard input and current directory.
void spawning(bool by_descriptor) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  std::string leaf = root + "/a/b/deep/leaf", folder = root + "/many";
  int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY);
  CALL(posix_spawn_file_actions_addopen(&actions, 0, leaf.c_str(), O_RDONLY, 0));
  if (by_descriptor)
    CALL(posix_spawn_file_actions_addfchdir_np(&actions, fd));
  else
    CALL(posix_spawn_file_actions_addchdir_np(&actions, folder.c_str()));
  char* argv[] = {const_cast<char*>("sh"), const_cast<char*>("-c"),
                  const_cast<char*>("cat; pwd -P; cat n7; ls | wc -l"), nullptr};
  pid_t pid = -1;
  int status = -1;
  fflush(stdout);
  const int error = posix_spawnp(&pid, "sh", &actions, nullptr, argv, environ);
  waitpid(pid, &status, 0);  // before anything else is printed
  CALL(error);
  CALL(status);
  CALL(posix_spawn_file_actions_destroy(&actions));
  close(fd);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  root = argv[1];
  parent = root.substr(0, root.rfind('/'));
  setvbuf(stdout, nullptr, _IOLBF, 0);
  for (const char* rel :
       {"/a/one", "/a", "", "/a/big", "/none", "/a/one/x", "/none/x", "/a/../many/n3", "/sp ace/\xc3\xbc%+"})
    looking((root + rel).c_str());
  for (const char* rel : {"", "/a", "/a/b/deep", "/a/one", "/none"})
    listing((root + rel).c_str());
  for (const char* rel : {"/a/one", "/a/big", "/a/empty"})
    reading((root + rel).c_str());
  for (const char* rel : {"/a/one", "/a", "/a/none", "/none/x", "/a/one/x"})
    changing((root + rel).c_str());
  for (const char* rel : {"/a/one", "/a", "/a/none", "/none/x", "/a/one/x"})
    raw((root + rel).c_str());
  for (const char* rel : {"/a/one", "/a", "/none", "/a/one/x"})
    executing((root + rel).c_str());
  if (!emulated()) spawning(false);
  if (!emulated()) spawning(true);
  char text[PATH_MAX + 1];
  if (chdir((root + "/a/b").c_str()) != 0) return 1;
  TEXT(getwd(text));
  TEXT(__getwd_chk(text, sizeof(text)));
  TEXT(__getcwd_chk(text, PATH_MAX, sizeof(text)));
  TEXT(__getcwd_chk(text, 3, sizeof(text)));
  return 0;
}
