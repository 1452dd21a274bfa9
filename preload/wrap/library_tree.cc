#include "preload/wrap/library_tree.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "larder/names.h"
#include "preload/base/sys.h"
#include "preload/lazy/lazy_read.h"
#include "preload/resolve/dispatch.h"
#include "preload/resolve/greeting.h"
#include "preload/wrap/elf_needs.h"
#include "preload/wrap/open.h"

extern "C" char** environ;

namespace larder {
namespace {

constexpr int kMost = 96;  // libraries of datasets that one needs, with what they need

// ---- text -----------------------------------------------------------------------------------------------------------

// A path that is put together; what does not fit makes it empty.
class Path {
 public:
  Path& add(const char* text, size_t n) {
    if (n >= sizeof(text_) - n_) n_ = 0, full_ = true;
    if (!full_) memcpy(text_ + n_, text, n), n_ += n;
    text_[n_] = 0;
    return *this;
  }
  Path& add(const char* text) { return add(text, strlen(text)); }
  Path& add_hex(uint64_t v) {
    char digits[16];
    for (int i = 15; i >= 0; --i, v >>= 4)
      digits[i] = "0123456789abcdef"[v & 15];
    return add(digits, sizeof(digits));
  }
  Path& add_number(unsigned v) {
    char digits[12];
    size_t at = sizeof(digits);
    do
      digits[--at] = static_cast<char>('0' + v % 10);
    while ((v /= 10) != 0);
    return add(digits + at, sizeof(digits) - at);
  }
  void clear() { n_ = 0, full_ = false, text_[0] = 0; }
  bool good() const { return !full_; }
  char* text() { return text_; }
  size_t size() const { return n_; }

 private:
  char text_[PATH_MAX] = {};
  size_t n_ = 0;
  bool full_ = false;
};

const char* variable(const char* name) {
  const size_t n = strlen(name);
  for (char** e = environ; e != nullptr && *e != nullptr; ++e)
    if (strncmp(*e, name, n) == 0 && (*e)[n] == '=') return *e + n + 1;
  return nullptr;
}

// ---- the tree -------------------------------------------------------------------------------------------------------

constinit char tree[512] = {};  // the folder that stands for "/", without a slash at the end
constinit std::atomic<size_t> tree_size{0};
constinit std::atomic<bool> tree_failed{false};

int make_folder(const char* path) {
  const long r = sys::call(SYS_mkdirat, AT_FDCWD, sys::arg(path), 0700);
  return r == -EEXIST ? 0 : static_cast<int>(r);
}

// A folder that the user alone can change.
bool is_own_folder(const char* path) {
  struct stat st;
  return sys::fstatat(AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) &&
         st.st_uid == static_cast<unsigned>(sys::call(SYS_geteuid)) && (st.st_mode & 022) == 0;
}

// The cache directory's path, if it leads to the directory that the library has open; else by our descriptor, whose
// number is then a part of the tree's name.
bool cache_has_path() {
  struct stat st;
  const char* cache = variable("LARDER_CACHE");
  return cache != nullptr && cache[0] == '/' && sys::fstatat(AT_FDCWD, cache, &st, 0) == 0 &&
         st.st_ino == process.root_inode.load() && st.st_dev == process.root_dev.load();
}

bool try_tree(const char* above, const char* name, bool numbered) {
  Path p;
  p.add(above).add(name);
  if (numbered) p.add_number(static_cast<unsigned>(sys::call(SYS_geteuid)));
  if (make_folder(p.text()) != 0 || !is_own_folder(p.text())) return false;
  p.add("/").add_hex(process.root_inode.load());
  if (!cache_has_path()) p.add("-").add_number(static_cast<unsigned>(process.root_fd.load()));
  if (!p.good() || p.size() >= sizeof(tree) || make_folder(p.text()) != 0) return false;
  memcpy(tree, p.text(), p.size() + 1);
  tree_size.store(p.size(), std::memory_order_release);
  return true;
}

// Threads that come here together choose the same.
bool have_tree() {
  if (tree_size.load(std::memory_order_acquire) != 0) return true;
  if (tree_failed.load(std::memory_order_relaxed)) return false;
  const char* runtime = variable("XDG_RUNTIME_DIR");
  if (runtime != nullptr && runtime[0] == '/' && is_own_folder(runtime) && try_tree(runtime, "/larder-lib", false))
    return true;
  if (try_tree("/tmp", "/larder-lib-", true) || try_tree("/dev/shm", "/larder-lib-", true)) return true;
  tree_failed.store(true, std::memory_order_relaxed);
  return false;
}

bool make_folders_above(char* path) {
  for (size_t i = tree_size.load() + 1; path[i] != 0; ++i) {
    if (path[i] != '/') continue;
    path[i] = 0;
    const int r = make_folder(path);
    path[i] = '/';
    if (r != 0) return false;
  }
  return true;
}

bool leads_to(const char* link, const Path& target, const char* text) {
  char now[PATH_MAX];
  const long n = sys::readlinkat(AT_FDCWD, link, now, sizeof(now));
  return n == static_cast<long>(target.size()) && memcmp(now, text, target.size()) == 0;
}

// Makes `link` lead to an object's file. The name is put in place at once: another process may be loading by it.
bool make_link(char* link, const Lookup& f) {
  Path target;
  CacheName file = object_path(f.dataset_id, f.entry.oid);
  struct stat st;
  if (sys::fstatat(process.root_fd.load(), file.c_str(), &st, AT_SYMLINK_NOFOLLOW) == -ENOENT)
    file = whole_chunks_path(f.dataset_id, f.entry.oid);
  if (cache_has_path()) {
    target.add(variable("LARDER_CACHE"));
  } else {
    char root[32];
    sys::fd_path(process.root_fd.load(), root);
    target.add(root);
  }
  target.add("/").add(file.c_str());
  if (!target.good()) return false;
  if (leads_to(link, target, target.text())) return true;
  long r = sys::call(SYS_symlinkat, sys::arg(target.text()), AT_FDCWD, sys::arg(link));
  if (r == -ENOENT && make_folders_above(link))
    r = sys::call(SYS_symlinkat, sys::arg(target.text()), AT_FDCWD, sys::arg(link));
  if (r != -EEXIST) return r == 0;
  Path fresh;
  fresh.add(link).add(".").add_number(static_cast<unsigned>(sys::call(SYS_gettid)));
  r = sys::call(SYS_symlinkat, sys::arg(target.text()), AT_FDCWD, sys::arg(fresh.text()));
  if (r == 0) r = sys::call(SYS_renameat2, AT_FDCWD, sys::arg(fresh.text()), AT_FDCWD, sys::arg(link), 0);
  if (r != 0) sys::call(SYS_unlinkat, AT_FDCWD, sys::arg(fresh.text()), 0);
  return r == 0;
}

}  // namespace

// ---- a library and what it needs ------------------------------------------------------------------------------------

struct NamedLibrary::Work {
  struct One {
    int fd = -1;
    int parent = -1;      // who needs it
    char path[PATH_MAX];  // in the mount
  };
  One all[kMost];
  int count = 0;
  Path name, candidate;

  // A file of a dataset becomes one of those that are named. True: it is (also if it was before).
  bool take(const char* path, int parent) {
    const int ours = dispatch(
        AT_FDCWD, path, true, [&](Found& f) { return take_found(f, parent) ? 1 : 0; },
        [](int, const char*) { return 0; });
    return ours == 1;
  }

  bool take_found(Found& f, int parent) {
    if (f.kind != Kind::kFile || count == kMost) return false;
    for (int i = 0; i < count; ++i)
      if (strcmp(all[i].path, f.path) == 0) return true;
    One& one = all[count];
    memcpy(one.path, f.path, f.path_len + 1);
    int fd = open_found(f, O_RDONLY | O_CLOEXEC);
    Lazy lazy;
    if (fd >= 0 && find_lazy(fd, &lazy) == 0) {
      sys::close(fd);
      fd = open_whole(lazy);
    }
    if (fd < 0) return false;
    one.fd = fd;
    one.parent = parent;
    ++count;
    return give_name(f, one.path);
  }

  bool give_name(const Lookup& f, const char* path) {
    if (!have_tree()) return false;
    name.clear();
    name.add(tree).add(path);
    return name.good() && make_link(name.text(), f);
  }

  template <typename Use>
  void with_needs(int i, Use use) {
    struct stat st;
    if (sys::fstat(all[i].fd, &st) != 0 || st.st_size <= 0) return;
    void* p = sys::mmap(nullptr, static_cast<size_t>(st.st_size), PROT_READ, MAP_PRIVATE, all[i].fd, 0);
    if (p == nullptr) return;
    use(ElfNeeds(p, static_cast<size_t>(st.st_size)));
    sys::munmap(p, static_cast<size_t>(st.st_size));
  }

  // One folder of a list, with $ORIGIN, of library `of`: looks for `needed` in it.
  bool look_in(const char* folder, size_t n, int of, const char* needed, int parent) {
    static constexpr const char* kOrigins[] = {"$ORIGIN", "${ORIGIN}"};
    candidate.clear();
    for (const char* origin : kOrigins) {
      const size_t len = strlen(origin);
      if (n < len || memcmp(folder, origin, len) != 0) continue;
      candidate.add(all[of].path, static_cast<size_t>(strrchr(all[of].path, '/') - all[of].path));
      folder += len;
      n -= len;
      break;
    }
    candidate.add(folder, n).add("/").add(needed);
    return candidate.good() && candidate.text()[0] == '/' && take(candidate.text(), parent);
  }

  bool look_in_list(const char* list, int of, const char* needed, int parent) {
    while (*list != 0) {
      const char* end = strchr(list, ':');
      const size_t n = end != nullptr ? static_cast<size_t>(end - list) : strlen(list);
      if (n > 0 && look_in(list, n, of, needed, parent)) return true;
      list += n + (end != nullptr);
    }
    return false;
  }

  // As ld.so looks: the RUNPATH of the library, or else its RPATH and those of who loaded it.
  void find_needed(int i, const char* needed) {
    if (strchr(needed, '/') != nullptr) return static_cast<void>(look_in("", 0, i, needed, i));
    bool found = false;
    for (int of = i; of >= 0 && !found; of = all[of].parent)
      with_needs(of, [&](const ElfNeeds& elf) {
        elf.folders(of != i, [&](const char* list) { found = found || look_in_list(list, of, needed, i); });
      });
  }

  void take_what_is_needed() {
    for (int i = 0; i < count; ++i)
      with_needs(i, [&](const ElfNeeds& elf) { elf.needed([&](const char* needed) { find_needed(i, needed); }); });
  }
};

NamedLibrary::NamedLibrary(const char* path)
    : work_(static_cast<Work*>(
          sys::mmap(nullptr, sizeof(Work), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
  if (work_ == nullptr) return;
  work_->take(path, -1);
  work_->take_what_is_needed();
  if (work_->count == 0) return;
  work_->name.clear();
  if (have_tree()) {
    work_->name.add(tree).add(work_->all[0].path);
    char byte;
    if (sys::readlinkat(AT_FDCWD, work_->name.text(), &byte, 1) > 0) return;
  }
  // Without a tree: a number of its own, which stays its own.
  char number[32];
  const int kept = park(work_->all[0].fd);
  work_->name.clear();
  if (kept < 0) return;
  sys::fd_path(kept, number);
  work_->name.add(number);
}

NamedLibrary::~NamedLibrary() {
  if (work_ == nullptr) return;
  for (int i = 0; i < work_->count; ++i)
    sys::close(work_->all[i].fd);
  sys::munmap(work_, sizeof(Work));
}

const char* NamedLibrary::name() const {
  return work_ != nullptr && work_->name.size() > 0 ? work_->name.text() : nullptr;
}

bool any_named() {
  return tree_size.load(std::memory_order_relaxed) != 0;
}

const char* mounted_name(const char* name) {
  const size_t n = tree_size.load(std::memory_order_acquire);
  return n != 0 && name != nullptr && strncmp(name, tree, n) == 0 && name[n] == '/' ? name + n : name;
}

}  // namespace larder
