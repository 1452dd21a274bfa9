// The model test: random sequences of file calls, the same ones for the same seed. Run bare on a plain read-only folder
// and preloaded on a dataset of the same content at the same path, every step must have the same result, errno and
// effect.
//
//   model ROOT SCRATCH HANDLES FIRST COUNT          one line a sequence: its seed and the hash of all its steps
//   model ROOT SCRATCH HANDLES FIRST COUNT print    every step
//
// HANDLES 0: no O_PATH descriptors of files, for a run during which files are evicted. S10a: An O_PATH descriptor does
// not keep its file in the cache. SCRATCH holds links into the tree (tests/preload/model_test.py makes them). Intended
// differences (docs/semantics.md) are left out by name: numbers of inodes and devices (but not which are equal),
// st_blksize, times of access and change, the order of a listing, and everything but the type of what is outside the
// tree.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <limits.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <map>

#include "tests/preload/model_paths.h"

extern char** environ;

namespace model {
namespace {

std::string root, scratch;
bool printing = false, handles = true;
AtTheEdge edge_a, edge_b;

uint64_t hash_of(const void* data, size_t n, uint64_t h = 1469598103934665603ULL) {
  auto* p = static_cast<const unsigned char*>(data);
  for (size_t i = 0; i < n; ++i)
    h = (h ^ p[i]) * 1099511628211ULL;
  return h;
}

const char* name_of(int error) {
  return error != 0 ? strerrorname_np(error) : "0";
}

// One sequence: what it holds open, and what it has seen.
class Sequence {
 public:
  explicit Sequence(uint64_t seed) : random_(seed) {}
  ~Sequence() {
    for (DIR*& d : dirs_)
      if (d != nullptr) closedir(d);
    for (FILE*& f : files_)
      if (f != nullptr) fclose(f);
    for (int& fd : fds_)
      if (fd >= 0) close(fd);
    for (auto& m : maps_)
      if (m.base != nullptr) munmap(m.base, m.size);
  }

  uint64_t run(unsigned steps) {
    for (step_ = 0; step_ < steps && !over_; ++step_)
      one_step();
    return hash_;
  }

 private:
  // ---- saying what happened ----

  __attribute__((format(printf, 2, 3))) void say(const char* format, ...) {
    char line[9000];
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(line, sizeof(line), format, ap);
    va_end(ap);
    size_t len = std::min(static_cast<size_t>(n), sizeof(line) - 1);
    hash_ = hash_of(line, len, hash_);
    if (printing) printf("  %s%u %s\n", inside_.c_str(), step_, line);
  }

  // The result of a call that returns -1 and errno.
  void result(const char* what, const std::string& about, long r) {
    int error = errno;
    if (r < 0)
      say("%s %s = -1 %s", what, about.c_str(), name_of(error));
    else
      say("%s %s = %ld", what, about.c_str(), r);
  }

  // Which inode it is, by order of appearance.
  size_t number_of(const struct stat& st) {
    return seen_.emplace(std::make_pair(st.st_dev, st.st_ino), seen_.size()).first->second;
  }

  std::string text_of(const struct stat& st) {
    struct stat top;
    char b[300];
    if (lstat(root.c_str(), &top) != 0 || top.st_dev != st.st_dev) {
      snprintf(b, sizeof(b), "outside %o", st.st_mode & S_IFMT);
      return b;
    }
    snprintf(b, sizeof(b), "#%zu %o nlink %lu %u:%u size %ld blocks %ld mtime %ld.%09ld", number_of(st), st.st_mode,
             static_cast<unsigned long>(st.st_nlink), st.st_uid, st.st_gid, static_cast<long>(st.st_size),
             static_cast<long>(st.st_blocks), static_cast<long>(st.st_mtim.tv_sec),
             static_cast<long>(st.st_mtim.tv_nsec));
    return b;
  }

  // ---- paths ----

  Base base_of_folder(const std::string& path) {
    Base base;
    if (path == root || (path.compare(0, root.size(), root) == 0 && path[root.size()] == '/'))
      base.trail = trail_of(path.substr(root.size()));
    else
      base.trail.clear();
    return base;
  }

  std::string absolute() { return root; }

  // A path for a call that may look around: absolute, relative, or through a link outside.
  std::string path(bool out = true) {
    Base base;
    unsigned dice = random_.below(100);
    if (dice < 50) {
      base.text = root;
    } else if (dice < 80 && cwd_known_) {
      base = cwd_;
      if (base.trail.empty()) return random_.percent(50) ? "data/a/one" : "data";
    } else if (dice < 95) {
      static const char* const kLinks[] = {"in", "in", "ina", "rel"};
      const char* link = random_.pick(kLinks);
      base.text = scratch + "/" + link;
      if (strcmp(link, "in") != 0) base.trail = trail_of("/a");
      std::string found = random_path(random_, base, out);
      return out || found.size() > base.text.size() + 1 ? found : base.text + "/a";  // the links themselves stay
    } else {
      static const char* const kOdd[] = {"file", "file/", "dangling", "loop", "in", "file/x", "loop/x", "out"};
      return out ? scratch + "/" + random_.pick(kOdd) : root + "/many/x";
    }
    return random_path(random_, base, out);
  }

  // A folder's descriptor and a path below it.
  int dirfd_and_path(std::string* p, bool out) {
    unsigned slot = random_.below(kSlots);
    int fd = fds_[slot];
    char link[64], where[PATH_MAX + 1];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = fd >= 0 && random_.percent(85) ? readlink(link, where, PATH_MAX) : -1;
    if (n <= 0 || where[0] != '/') {
      *p = path(out);
      return AT_FDCWD;
    }
    Base base = base_of_folder(std::string(where, static_cast<size_t>(n)));
    *p = base.trail.empty() ? "data/a" : random_path(random_, base, out);
    return fd;
  }

  const char* a(const std::string& text) { return edge_a.put(text); }
  const char* b(const std::string& text) { return edge_b.put(text); }

  // ---- steps ----

  void one_step() {
    struct Kind {
      unsigned weight;
      void (Sequence::*run)();
    };
    static const Kind kinds[] = {{16, &Sequence::open_step},  {14, &Sequence::stat_step},    {12, &Sequence::read_step},
                                 {8, &Sequence::seek_step},   {6, &Sequence::dup_step},      {6, &Sequence::fstat_step},
                                 {8, &Sequence::list_step},   {6, &Sequence::cwd_step},      {5, &Sequence::link_step},
                                 {10, &Sequence::write_step}, {6, &Sequence::stdio_step},    {4, &Sequence::map_step},
                                 {5, &Sequence::close_step},  {4, &Sequence::flags_step},    {4, &Sequence::raw_step},
                                 {3, &Sequence::walk_step},   {3, &Sequence::info_step},     {3, &Sequence::copy_step},
                                 {2, &Sequence::pass_step},   {2, &Sequence::write_fd_step}, {1, &Sequence::fork_step},
                                 {1, &Sequence::exec_step}};
    unsigned total = 0;
    for (const Kind& k : kinds)
      total += k.weight;
    unsigned dice = random_.below(total);
    for (const Kind& k : kinds) {
      if (dice < k.weight) return (this->*k.run)();
      dice -= k.weight;
    }
  }

  void keep(const char* what, const std::string& about, int fd) {
    int error = errno;
    struct stat st;
    if (fd < 0) return say("%s %s = -1 %s", what, about.c_str(), name_of(error));
    say("%s %s = fd %d %s", what, about.c_str(), fd, fstat(fd, &st) == 0 ? text_of(st).c_str() : name_of(errno));
    unsigned slot = random_.below(kSlots);
    if (fds_[slot] >= 0) close(fds_[slot]);
    fds_[slot] = fd;
  }

  // A link to the mount point that covers a folder: without O_DIRECTORY its descriptor is the disk's
  // (docs/semantics.md, S9a).
  static int folder_behind_a_link(const std::string& p, bool writing) {
    return !writing && p.compare(0, scratch.size(), scratch) == 0 && is_root(p) ? O_DIRECTORY : 0;
  }
  static bool is_root(const std::string& p) {
    char text[PATH_MAX];
    return realpath(p.c_str(), text) != nullptr && root == text;
  }

  void open_step() {
    static const int kFlags[] = {O_RDONLY,
                                 O_RDONLY,
                                 O_RDONLY | O_CLOEXEC,
                                 O_RDONLY | O_CLOEXEC,
                                 O_RDONLY | O_DIRECTORY,
                                 O_RDONLY | O_DIRECTORY | O_CLOEXEC,
                                 O_PATH,
                                 O_PATH | O_DIRECTORY,
                                 O_PATH | O_NOFOLLOW,
                                 O_RDONLY | O_NOFOLLOW,
                                 O_RDONLY | O_NONBLOCK};
    static const int kWriting[] = {O_WRONLY,
                                   O_RDWR,
                                   O_RDONLY | O_CREAT,
                                   O_WRONLY | O_CREAT,
                                   O_WRONLY | O_CREAT | O_EXCL,
                                   O_RDWR | O_CREAT | O_TRUNC,
                                   O_RDONLY | O_TRUNC,
                                   O_WRONLY | O_APPEND,
                                   O_TMPFILE | O_RDWR,
                                   O_RDONLY | O_CREAT | O_DIRECTORY};
    bool writing = random_.percent(15);
    int flags = writing ? random_.pick(kWriting) : random_.pick(kFlags);
    if (!handles && (flags & (O_PATH | O_DIRECTORY)) == O_PATH) flags &= ~O_PATH;
    std::string p;
    int at = random_.percent(35) ? dirfd_and_path(&p, !writing) : (p = path(!writing), AT_FDCWD);
    flags |= folder_behind_a_link(p, writing);
    std::string about = p + " " + std::to_string(at) + " " + std::to_string(flags);
    switch (at == AT_FDCWD ? random_.below(4) : 4 + random_.below(2)) {
      case 0:
        return keep("open", about, open(a(p), flags, 0644));
      case 1:
        return keep("open64", about, open64(a(p), flags, 0644));
      case 2:
        return keep("openat64", about, openat64(AT_FDCWD, a(p), flags, 0644));
      case 3:
        return keep("syscall openat", about, static_cast<int>(syscall(SYS_openat, AT_FDCWD, a(p), flags, 0644)));
      default:
        return keep("openat", about, openat(at, a(p), flags, 0644));
    }
  }

  void stat_step() {
    struct stat st;
    std::string p;
    int at = random_.percent(35) ? dirfd_and_path(&p, true) : (p = path(), AT_FDCWD);
    unsigned kind = random_.below(6);
    int nofollow = random_.percent(40) ? AT_SYMLINK_NOFOLLOW : 0;
    std::string about = p + " " + std::to_string(at) + (nofollow ? " nofollow" : "");
    if (kind == 0) {
      static const int kModes[] = {F_OK, R_OK, W_OK, X_OK, R_OK | W_OK, R_OK | X_OK};
      int mode = random_.pick(kModes);
      return result("access", about + " " + std::to_string(mode),
                    at == AT_FDCWD ? access(a(p), mode) : faccessat(at, a(p), mode, 0));
    }
    if (kind == 1) {
      struct statx x;
      int r = statx(at, a(p), nofollow, STATX_BASIC_STATS, &x);
      if (r != 0) return result("statx", about, r);
      return say("statx %s = %o", about.c_str(), x.stx_mode & S_IFMT);
    }
    int r = at != AT_FDCWD || kind == 2 ? fstatat(at, a(p), &st, nofollow)
            : nofollow                  ? lstat(a(p), &st)
                                        : stat(a(p), &st);
    if (r != 0) return result("stat", about, r);
    say("stat %s = %s", about.c_str(), text_of(st).c_str());
  }

  int some_fd() { return fds_[random_.below(kSlots)]; }

  void fstat_step() {
    int fd = some_fd();
    struct stat st;
    int r = random_.percent(50) ? fstat(fd, &st) : fstatat(fd, "", &st, AT_EMPTY_PATH);
    if (r != 0) return result("fstat", std::to_string(fd), r);
    say("fstat %d = %s", fd, text_of(st).c_str());
  }

  void bytes(const char* what, int fd, long r) {
    int error = errno;
    if (r < 0) return say("%s %d = -1 %s", what, fd, name_of(error));
    say("%s %d = %ld %016lx", what, fd, r, static_cast<unsigned long>(hash_of(buffer_, static_cast<size_t>(r))));
  }

  void read_step() {
    int fd = some_fd();
    size_t n = random_.percent(20) ? sizeof(buffer_) : random_.below(5000);
    off_t at = random_.below(320000);
    struct iovec iov[3] = {{buffer_, n / 3}, {buffer_ + n / 3, n / 3}, {buffer_ + n / 3 * 2, n - n / 3 * 2}};
    switch (random_.below(5)) {
      case 0:
        return bytes("pread", fd, pread(fd, buffer_, n, at));
      case 1:
        return bytes("readv", fd, readv(fd, iov, 3));
      case 2:
        return bytes("preadv", fd, preadv(fd, iov, 3, at));
      default:
        return bytes("read", fd, read(fd, buffer_, n));
    }
  }

  // Not on folders: where a listing continues after lseek depends on the file system.
  void seek_step() {
    static const int kWhence[] = {SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE};
    int fd = some_fd(), whence = random_.pick(kWhence);
    long at = static_cast<long>(random_.below(400000)) - (whence == SEEK_SET ? 10 : 200000);
    struct stat st;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) return;
    result("lseek", std::to_string(fd) + " " + std::to_string(at) + " " + std::to_string(whence),
           lseek(fd, at, whence));
  }

  void dup_step() {
    int fd = some_fd();
    std::string about = std::to_string(fd);
    int to = 20 + static_cast<int>(random_.below(40)) + (random_.percent(10) ? 1200 : 0);
    switch (random_.below(5)) {
      case 0:
        return keep("dup", about, dup(fd));
      case 1:
        return keep("F_DUPFD_CLOEXEC", about, fcntl(fd, F_DUPFD_CLOEXEC, to));
      case 2:
        return keep("F_DUPFD", about, fcntl(fd, F_DUPFD, to));
      default:
        break;
    }
    for (int& other : fds_)
      if (other == to) other = -1;  // it is replaced
    if (random_.percent(50)) return keep("dup2", about + " " + std::to_string(to), dup2(fd, to));
    keep("dup3", about + " " + std::to_string(to), dup3(fd, to, random_.percent(50) ? O_CLOEXEC : 0));
  }

  void close_step() {
    unsigned slot = random_.below(kSlots);
    int fd = fds_[slot];
    fds_[slot] = -1;
    switch (random_.below(3)) {
      case 0:
        return result("close", std::to_string(fd), close(fd));
      case 1:
        return result("raw close", std::to_string(fd), syscall(SYS_close, fd));
      default:
        break;
    }
    if (fd < 3) return;
    result("close_range", std::to_string(fd), syscall(SYS_close_range, fd, fd, 0));
  }

  void flags_step() {
    int fd = some_fd();
    switch (random_.below(3)) {
      case 0: {
        int flags = fcntl(fd, F_GETFL);
        return result("F_GETFL", std::to_string(fd),
                      flags < 0 ? flags : flags & ~(O_DIRECTORY | O_NOFOLLOW));  // ours may have these, too
      }
      case 1:
        return result("F_GETFD", std::to_string(fd), fcntl(fd, F_GETFD));
      default:
        return result("F_SETFD", std::to_string(fd), fcntl(fd, F_SETFD, random_.percent(50) ? FD_CLOEXEC : 0));
    }
  }

  // ---- listings ----

  static void add(std::vector<std::string>* names, const char* name, int type) {
    names->push_back(std::string(name) + ":" + std::to_string(type));
  }

  void listed(const char* what, const std::string& about, std::vector<std::string> names) {
    std::sort(names.begin(), names.end());
    std::string all;
    for (auto& n : names)
      all += n + "|";
    if (all.size() > 8000) all.resize(8000);
    say("%s %s = %s", what, about.c_str(), all.c_str());
  }

  void read_all(const char* what, const std::string& about, DIR* d) {
    std::vector<std::string> names;
    while (struct dirent* e = readdir(d))
      add(&names, e->d_name, e->d_type);
    listed(what, about, names);
  }

  void list_step() {
    DIR*& d = dirs_[random_.below(2)];
    unsigned kind = random_.below(10);
    if (d == nullptr || kind < 3) {
      if (d != nullptr) result("closedir", "", closedir(d));
      std::string p = path();
      if (random_.percent(60)) {
        d = opendir(a(p));
        if (d != nullptr) dirfd(d);  // ours takes a descriptor only now; the numbers that follow are compared
      } else {
        int fd = open(a(p), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        d = fd >= 0 ? fdopendir(fd) : nullptr;
        if (d == nullptr && fd >= 0) close(fd);
      }
      return say("opendir %s = %s", p.c_str(), d != nullptr ? "ok" : name_of(errno));
    }
    struct stat st;
    if (kind < 7) {
      rewinddir(d);
      read_all("readdir", "", d);
    } else if (kind == 7) {
      for (unsigned n = random_.below(5); n > 0; --n)
        readdir(d);
      long at = telldir(d);
      struct dirent* e = readdir(d);
      std::string name = e != nullptr ? e->d_name : "";
      for (int i = 0; i < 3; ++i)
        readdir(d);
      seekdir(d, at);
      e = readdir(d);
      say("seekdir %d", name == (e != nullptr ? e->d_name : ""));
    } else if (kind == 8) {
      int fd = dirfd(d);
      say("dirfd %s", fstat(fd, &st) == 0 ? text_of(st).c_str() : name_of(errno));
    } else {
      result("closedir", "", closedir(d));
      d = nullptr;
    }
  }

  static std::vector<std::string>* walked_;
  static int on_walk(const char* p, const struct stat* st, int type, struct FTW* w) {
    walked_->push_back(std::string(p) + ":" + std::to_string(type) + ":" + std::to_string(w->level) + ":" +
                       std::to_string(S_ISREG(st->st_mode) ? st->st_size : 0));
    return 0;
  }

  void walk_step() {
    std::string p = path(false);
    if (p.size() >= PATH_MAX) return;  // glibc's walks go step by step, and find another reason first
    std::vector<std::string> names;
    switch (random_.below(3)) {
      case 0: {
        struct dirent** list = nullptr;
        int n = scandir(a(p), &list, nullptr, alphasort);
        if (n < 0) return result("scandir", p, n);
        for (int i = 0; i < n; ++i)
          add(&names, list[i]->d_name, list[i]->d_type), free(list[i]);
        free(list);
        return listed("scandir", p, names);
      }
      case 1: {
        glob_t g;
        std::string pattern = p + (random_.percent(50) ? "/*" : "/[ano]*/*");
        int r = glob(a(pattern), random_.percent(50) ? GLOB_MARK : 0, nullptr, &g);
        for (size_t i = 0; r == 0 && i < g.gl_pathc; ++i)
          names.push_back(g.gl_pathv[i]);
        globfree(&g);
        return listed("glob", pattern + " " + std::to_string(r), names);
      }
      default: {
        static const int kFlags[] = {FTW_PHYS, 0, FTW_PHYS | FTW_DEPTH, FTW_PHYS | FTW_CHDIR};
        walked_ = &names;
        int r = nftw(a(p), on_walk, 8, random_.pick(kFlags));
        return r < 0 ? result("nftw", p, r) : listed("nftw", p, names);
      }
    }
  }

  // ---- the current directory, links ----

  void note_cwd() {
    char where[PATH_MAX];
    cwd_known_ = getcwd(where, sizeof(where)) != nullptr && where[0] == '/';
    if (cwd_known_) cwd_ = base_of_folder(where);
    say("getcwd = %s", cwd_known_ ? where : name_of(errno));
    std::string text = where;
    if (cwd_known_ && cwd_.trail.empty() && text + "/data" != root) go_home();  // nothing else out there
  }

  void go_home() {
    say("home %d", chdir(root.c_str()));
    cwd_ = Base{};
    cwd_known_ = true;
  }

  void cwd_step() {
    if (random_.percent(30)) {
      int fd = some_fd();
      result("fchdir", std::to_string(fd), fchdir(fd));
    } else {
      std::string p = path();
      result("chdir", p, chdir(a(p)));
    }
    note_cwd();
  }

  void link_step() {
    char text[PATH_MAX + 1] = {};
    std::string p = path();
    if (random_.percent(40)) {
      ssize_t n = readlink(a(p), text, PATH_MAX);
      return n < 0 ? result("readlink", p, n) : say("readlink %s = %s", p.c_str(), text);
    }
    if (p.size() >= PATH_MAX) return;  // glibc goes step by step, and finds another reason first
    char* r = random_.percent(50) ? realpath(a(p), text) : realpath(a(p), nullptr);
    say("realpath %s = %s", p.c_str(), r != nullptr ? r : name_of(errno));
    if (r != text) free(r);
  }

  // ---- what would change something ----

  // File systems differ in which of several errors comes first; all of them refuse.
  void refused(const char* what, const std::string& about, long r) {
    say("%s %s = %s", what, about.c_str(),
        r < 0 ? (errno == ENOENT || errno == ENOTDIR || errno == ELOOP || errno == ENAMETOOLONG ? name_of(errno)
                                                                                                : "refused")
              : "DONE");
  }

  void write_step() {
    static const struct timespec kTimes[2] = {{1, 0}, {2, 0}};
    std::string p, q;
    int at = random_.percent(30) ? dirfd_and_path(&p, false) : (p = path(false), AT_FDCWD);
    std::string about = p + " " + std::to_string(at);
    switch (random_.below(15)) {
      case 0:
        return refused("unlink", about, unlinkat(at, a(p), 0));
      case 1:
        return refused("rmdir", about, unlinkat(at, a(p), AT_REMOVEDIR));
      case 2:
        return result("mkdir", about, mkdirat(at, a(p), 0755));
      case 3:
        return result("mknod", about, mknodat(at, a(p), S_IFREG | 0644, 0));
      case 4:
        return result("symlink", about, symlinkat("target", at, a(p)));
      case 5:
        return result("chmod", about, fchmodat(at, a(p), 0600, 0));
      case 6:
        return result("chown", about, fchownat(at, a(p), 0, 0, random_.percent(50) ? AT_SYMLINK_NOFOLLOW : 0));
      case 7:
        return result("utimensat", about, utimensat(at, a(p), kTimes, random_.percent(50) ? AT_SYMLINK_NOFOLLOW : 0));
      case 8:
        p = path(false);
        return result("truncate", p, truncate(a(p), 1));
      case 9:
        p = path(false);
        return result("setxattr", p, setxattr(a(p), "user.x", "y", 1, 0));
      case 10:
        q = path(false);
        if (at == AT_FDCWD && is_root(p)) return;
        return refused("rename", about + " to " + q, renameat(at, a(p), AT_FDCWD, b(q)));
      case 11:
        q = path(false);
        return refused("link", about + " to " + q, linkat(at, a(p), AT_FDCWD, b(q), 0));
      case 12:
        q = scratch + "/out";
        return refused("rename out", about, renameat(at, a(p), AT_FDCWD, b(q)));
      case 13:
        p = path(false);
        return refused("remove", p, remove(a(p)));
      default:
        q = p = root + (random_.percent(50) ? "/a/tXXXXXX" : "/none/tXXXXXX");
        return result("mkstemp", q, mkstemp(p.data()));
    }
  }

  void write_fd_step() {
    static const struct timespec kTimes[2] = {{1, 0}, {2, 0}};
    int fd = some_fd();
    std::string about = std::to_string(fd);
    switch (random_.below(5)) {
      case 0:
        return result("write", about, write(fd, "x", 1));
      case 1:
        return result("ftruncate", about, ftruncate(fd, 0));
      case 2:
        return result("fchmod", about, fchmod(fd, 0600));
      case 3:
        return result("futimens", about, futimens(fd, kTimes));
      default:
        return result("fsetxattr", about, fsetxattr(fd, "user.x", "y", 1, 0));
    }
  }

  // ---- stdio, mappings ----

  void stdio_step() {
    FILE*& f = files_[random_.below(2)];
    if (f == nullptr || random_.percent(30)) {
      static const char* const kModes[] = {"r", "r", "rb", "re", "r+", "w", "a"};
      std::string p = path(false);
      const char* mode = random_.pick(kModes);
      if (f != nullptr && random_.percent(50)) {
        f = freopen(a(p), mode, f);
        return say("freopen %s %s = %s", p.c_str(), mode, f != nullptr ? "ok" : name_of(errno));
      }
      if (f != nullptr) fclose(f);
      int fd = some_fd();
      if (random_.percent(20) && (fd = dup(fd)) >= 0) {
        f = fdopen(fd, "r");
        if (f == nullptr) close(fd);
        return say("fdopen %d = %s", fd, f != nullptr ? "ok" : name_of(errno));
      }
      f = fopen(a(p), mode);
      return say("fopen %s %s = %s", p.c_str(), mode, f != nullptr ? "ok" : name_of(errno));
    }
    size_t n = random_.below(random_.percent(20) ? 200000 : 300);
    switch (random_.below(4)) {
      case 0:
        return result("fseek", "", fseek(f, static_cast<long>(random_.below(310000)), SEEK_SET));
      case 1:
        return say("fgetc = %d %s", fgetc(f), ferror(f) ? "error" : "");
      case 2:
        return say("fgets = %s", fgets(buffer_, 300, f) != nullptr
                                     ? std::to_string(hash_of(buffer_, strlen(buffer_))).c_str()
                                     : "null");
      default:
        n = fread(buffer_, 1, n, f);
        return say("fread = %zu %016lx", n, static_cast<unsigned long>(hash_of(buffer_, n)));
    }
  }

  void map_step() {
    auto& m = maps_[random_.below(2)];
    if (m.base != nullptr && random_.percent(50)) {
      size_t at = random_.below(static_cast<unsigned>(m.size));
      size_t n = std::min<size_t>(m.size - at, random_.below(20000));
      return say("mapped = %016lx", static_cast<unsigned long>(hash_of(m.base + at, n)));
    }
    if (m.base != nullptr) munmap(m.base, m.size);
    m.base = nullptr;
    int fd = some_fd();
    struct stat st;
    if (fstat(fd, &st) != 0) return;
    size_t size = S_ISREG(st.st_mode) && st.st_size > 0 ? static_cast<size_t>(st.st_size) : 4096;
    int prot = random_.percent(15) ? PROT_READ | PROT_WRITE : PROT_READ,
        flags = random_.percent(50) ? MAP_PRIVATE : MAP_SHARED;
    void* p = mmap(nullptr, size, prot, flags, fd, 0);
    say("mmap %d %d %d = %s", fd, prot, flags, p != MAP_FAILED ? "ok" : name_of(errno));
    if (p == MAP_FAILED) return;
    if (st.st_size == 0)
      munmap(p, size);
    else
      m = {static_cast<char*>(p), size};
  }

  // ---- raw calls, information ----

  void raw_step() {
    std::string p;
    int at = dirfd_and_path(&p, true);
    std::string about = p + " " + std::to_string(at);
    struct stat st;
    switch (random_.below(5)) {
      case 0: {
        long r = syscall(SYS_newfstatat, at, a(p), &st, 0);
        return r < 0 ? result("raw fstatat", about, r) : say("raw fstatat %s = %s", about.c_str(), text_of(st).c_str());
      }
      case 1: {
        struct {
          uint64_t flags, mode, resolve;
        } how = {static_cast<uint64_t>(folder_behind_a_link(p, false)), 0, 0};
        return keep("openat2", about, static_cast<int>(syscall(437, at, a(p), &how, sizeof(how))));
      }
      case 2:
        return result("raw faccessat2", about, syscall(439, at, a(p), R_OK, 0));
      case 3: {
        char text[PATH_MAX] = {};
        long r = syscall(SYS_readlinkat, at, a(p), text, sizeof(text) - 1);
        return r < 0 ? result("raw readlinkat", about, r) : say("raw readlinkat %s = %s", about.c_str(), text);
      }
      default: {
        int fd = some_fd();
        std::vector<std::string> names;
        long n, failed = 0;
        int got = fd >= 0 ? dup(fd) : -1;
        if (got < 0) return;
        lseek(got, 0, SEEK_SET);
        while (names.size() < 1000 && (n = syscall(SYS_getdents64, got, buffer_, 600)) > 0) {
          for (long i = 0; i < n;) {
            auto* e = reinterpret_cast<struct dirent64*>(buffer_ + i);
            add(&names, e->d_name, e->d_type);
            i += e->d_reclen;
          }
        }
        failed = n < 0 ? errno : 0;
        lseek(got, 0, SEEK_SET);
        close(got);
        return listed("getdents64", name_of(static_cast<int>(failed)), names);
      }
    }
  }

  void info_step() {
    std::string p = path(false);
    struct statvfs v;
    char text[100];
    switch (random_.below(5)) {
      case 0: {
        int r = statvfs(a(p), &v);
        return r != 0 ? result("statvfs", p, r)
                      : say("statvfs %s = %lu %lu", p.c_str(), v.f_flag & ST_RDONLY, v.f_namemax);
      }
      case 1:
        return result("pathconf", p, pathconf(a(p), _PC_NAME_MAX));
      case 2:
        return result("getxattr", p, getxattr(a(p), "user.none", text, sizeof(text)));
      case 3:
        return result("listxattr", p, listxattr(a(p), text, sizeof(text)));
      default: {
        int in = inotify_init1(IN_CLOEXEC);
        int r = inotify_add_watch(in, a(p), IN_MODIFY);
        int error = errno;
        close(in);
        errno = error;
        return result("inotify_add_watch", p, r);
      }
    }
  }

  // ---- between descriptors and processes ----

  void copy_step() {
    int fd = some_fd();
    if (fd < 0) return;
    int to = memfd_create("model", MFD_CLOEXEC);
    off_t off = random_.below(300000);
    size_t n = 1 + random_.below(100000);
    bool whole = random_.percent(50);
    long r = whole ? sendfile(to, fd, &off, n) : copy_file_range(fd, &off, to, nullptr, n, 0);
    int error = errno;
    long got = r > 0 ? pread(to, buffer_, sizeof(buffer_), 0) : 0;
    close(to);
    // A copy goes between different file systems in the two runs; read(2) agrees.
    say("%s %d = %ld %s %016lx", whole ? "sendfile" : "copy_file_range", fd, r, r < 0 && whole ? name_of(error) : "",
        static_cast<unsigned long>(hash_of(buffer_, static_cast<size_t>(got))));
  }

  void pass_step() {
    int fd = some_fd(), pair[2];
    if (fd < 0 || socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) != 0) return;
    char byte = 0;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    struct iovec iov = {&byte, 1};
    struct msghdr m = {};
    m.msg_iov = &iov, m.msg_iovlen = 1, m.msg_control = control, m.msg_controllen = sizeof(control);
    cmsghdr* c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    long sent = sendmsg(pair[0], &m, 0), got = recvmsg(pair[1], &m, 0);
    int passed = -1;
    if (got == 1 && CMSG_FIRSTHDR(&m) != nullptr) memcpy(&passed, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(passed));
    close(pair[0]), close(pair[1]);
    say("passed %ld %ld", sent, got);
    keep("SCM_RIGHTS", std::to_string(fd), passed);
  }

  // A child takes some steps, then the parent goes on.
  void fork_step() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
      inside_ += "child ";
      for (DIR*& d : dirs_)
        d = nullptr;  // whose place the parent's is after a child's use is not defined
      for (int i = 0; i < 4; ++i)
        one_step();
      fflush(stdout);
      _exit(write(ends[1], &hash_, sizeof(hash_)) == sizeof(hash_) ? 0 : 1);
    }
    close(ends[1]);
    uint64_t h = 0;
    ssize_t n = read(ends[0], &h, sizeof(h));
    int status = -1;
    waitpid(child, &status, 0);
    close(ends[0]);
    say("child %zd %d %016lx", n, status, static_cast<unsigned long>(h));
  }

  // Another program gets a descriptor, a name and the current directory.
  void exec_step() {
    int fd = some_fd();
    std::string number = std::to_string(fd), p = path();
    std::string command = "exec 2>&1; test -r \"$1\"; echo $? $(head -c 70 <&" + number +
                          " 2>/dev/null | cksum) $(pwd -P); ls -d \"$1\" >/dev/null 2>&1; echo $?";
    int ends[2];
    if (fd < 0 || pipe2(ends, O_CLOEXEC) != 0) return;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    const char* words[] = {"sh", "-c", command.c_str(), "sh", p.c_str(), nullptr};
    pid_t child = -1;
    int error = posix_spawn(&child, "/bin/sh", &actions, nullptr, const_cast<char**>(words), environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    std::string out;
    char part[4096];
    for (ssize_t n; (n = read(ends[0], part, sizeof(part))) > 0;)
      out.append(part, static_cast<size_t>(n));
    close(ends[0]);
    int status = -1;
    if (error == 0) waitpid(child, &status, 0);
    say("exec %s %s = %d %d %s", number.c_str(), p.c_str(), error, status, out.c_str());
  }

  static constexpr unsigned kSlots = 6;
  Random random_;
  uint64_t hash_ = 1469598103934665603ULL;
  unsigned step_ = 0;
  bool over_ = false;
  std::string inside_;
  int fds_[kSlots] = {-1, -1, -1, -1, -1, -1};
  DIR* dirs_[2] = {};
  FILE* files_[2] = {};
  struct {
    char* base = nullptr;
    size_t size = 0;
  } maps_[2];
  std::map<std::pair<dev_t, ino_t>, size_t> seen_;
  Base cwd_;
  bool cwd_known_ = true;
  static char buffer_[1 << 18];
};

char Sequence::buffer_[1 << 18];
std::vector<std::string>* Sequence::walked_ = nullptr;

}  // namespace
}  // namespace model

int main(int argc, char** argv) {
  using namespace model;
  if (argc < 6) return 2;
  root = argv[1], scratch = argv[2];
  handles = argv[3][0] == '1';
  printing = argc > 6;
  uint64_t first = strtoull(argv[4], nullptr, 0), count = strtoull(argv[5], nullptr, 0);
  for (uint64_t seed = first; seed < first + count; ++seed) {
    if (chdir(root.c_str()) != 0) return 3;
    uint64_t h = Sequence(seed).run(25);
    printf("%llu %016llx\n", static_cast<unsigned long long>(seed), static_cast<unsigned long long>(h));
  }
  return 0;
}
