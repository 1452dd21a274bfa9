// glob, ftw, nftw: libc opens and stats internally in them.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preload/base/next.h"
#include "preload/base/sys.h"
#include "preload/wrap/directory_stream.h"

namespace larder {
namespace {

// ---- glob: it can be told what to open directories with -----------------------------------------

void use_our_calls(glob_t* g) {
  g->gl_closedir = [](void* d) { larder_closedir(static_cast<DIR*>(d)); };
  g->gl_readdir = [](void* d) { return larder_readdir(static_cast<DIR*>(d)); };
  g->gl_opendir = [](const char* p) -> void* { return larder_opendir(p); };
  g->gl_lstat = [](const char* p, struct stat* st) { return larder_lstat(p, st); };
  g->gl_stat = [](const char* p, struct stat* st) { return larder_stat(p, st); };
}
void use_our_calls(glob64_t* g) {
  g->gl_closedir = [](void* d) { larder_closedir(static_cast<DIR*>(d)); };
  g->gl_readdir = [](void* d) { return larder_readdir64(static_cast<DIR*>(d)); };
  g->gl_opendir = [](const char* p) -> void* { return larder_opendir(p); };
  g->gl_lstat = [](const char* p, struct stat64* st) { return larder_lstat64(p, st); };
  g->gl_stat = [](const char* p, struct stat64* st) { return larder_stat64(p, st); };
}

template <typename G, typename Real>
int glob_wrapper(const char* pattern, int flags, int (*on_error)(const char*, int), G* out, Real real) {
  if ((flags & GLOB_ALTDIRFUNC) != 0 || out == nullptr || current_state() == nullptr)
    return real(pattern, flags, on_error, out);
  use_our_calls(out);
  int r = real(pattern, flags | GLOB_ALTDIRFUNC, on_error, out);
  out->gl_flags &= ~GLOB_ALTDIRFUNC;
  return r;
}

// ---- nftw ---------------------------------------------------------------------------------------

template <typename Stat>
struct WalkCall {
  int (*plain)(const char*, const Stat*, int);              // ftw
  int (*full)(const char*, const Stat*, int, struct FTW*);  // nftw
};

int stat_of(const char* path, struct stat* st, bool follow) {
  return follow ? larder_stat(path, st) : larder_lstat(path, st);
}
int stat_of(const char* path, struct stat64* st, bool follow) {
  return follow ? larder_stat64(path, st) : larder_lstat64(path, st);
}

// One walk, depth first, in the order of readdir, as glibc's. With FTW_CHDIR the current directory is the folder of
// what is reported; the walk itself goes by whole paths.
template <typename Stat>
class Walk {
 public:
  Walk(WalkCall<Stat> call, int flags) : call_(call), flags_(flags) {}

  int run(const char* root) {
    size_t len = strlen(root);
    while (len > 1 && root[len - 1] == '/')
      --len;
    if (len >= PATH_MAX) return fail(ENAMETOOLONG);
    path_ = full_;
    if ((flags_ & FTW_CHDIR) && root[0] != '/') {
      if (larder_getcwd(full_, PATH_MAX) == nullptr) return -1;
      path_ = full_ + strlen(full_);
      *path_++ = '/';
    }
    memcpy(path_, root, len);
    path_[len] = 0;
    const char* slash = static_cast<const char*>(memrchr(path_, '/', len));
    size_t base = slash != nullptr && len > 1 ? static_cast<size_t>(slash - path_) + 1 : 0;
    sys::Fd home((flags_ & FTW_CHDIR) ? sys::openat(AT_FDCWD, ".", O_PATH | O_DIRECTORY | O_CLOEXEC) : -1);
    if (!enter_folder(base)) return -1;
    int r = visit(len, static_cast<int>(base), 0);
    if (home.get() >= 0) larder_fchdir(home.get());
    return (flags_ & FTW_ACTIONRETVAL) && r == FTW_SKIP_SIBLINGS ? 0 : r;
  }

 private:
  // Into the folder that path_[0, len) names (len 0: where the walk began), if the caller wants that.
  bool enter_folder(size_t len) {
    if (!(flags_ & FTW_CHDIR)) return true;
    while (len > 1 && path_[len - 1] == '/')
      --len;
    size_t end = static_cast<size_t>(path_ - full_) + len;
    if (end == 0) return true;
    char kept = full_[end];
    full_[end] = 0;
    int r = larder_chdir(full_);
    full_[end] = kept;
    return r == 0;
  }

  int report(const Stat& st, int type, int base, int level) {
    struct FTW where = {base, level};
    return call_.plain != nullptr ? call_.plain(path_, &st, type) : call_.full(path_, &st, type, &where);
  }

  int type_of(Stat* st) {
    bool follow = (flags_ & FTW_PHYS) == 0;
    memset(static_cast<void*>(st), 0, sizeof(*st));
    if (stat_of(full_, st, follow) == 0) return S_ISDIR(st->st_mode) ? FTW_D : S_ISLNK(st->st_mode) ? FTW_SL : FTW_F;
    if (follow && stat_of(full_, st, false) == 0) return call_.plain != nullptr ? FTW_NS : FTW_SLN;
    return FTW_NS;
  }

  int visit(size_t len, int base, int level) {
    Stat st;
    int type = type_of(&st);
    if (type == FTW_NS && level == 0) return -1;
    if ((flags_ & FTW_MOUNT) && level > 0 && st.st_dev != device_) return 0;
    if (level == 0) device_ = st.st_dev;
    return type == FTW_D ? folder(st, len, base, level) : report(st, type, base, level);
  }

  int folder(const Stat& st, size_t len, int base, int level) {
    DIR* dir = larder_opendir(full_);
    if (dir == nullptr) return errno == EACCES ? report(st, FTW_DNR, base, level) : -1;
    const bool after = (flags_ & FTW_DEPTH) != 0, actions = (flags_ & FTW_ACTIONRETVAL) != 0;
    int r = after ? 0 : report(st, FTW_D, base, level);
    bool skip = actions && r == FTW_SKIP_SUBTREE;
    if (skip) r = 0;
    if (r == 0 && !skip) r = enter_folder(len) ? children(dir, len, level) : -1;
    larder_closedir(dir);
    path_[len] = 0;
    if (!enter_folder(static_cast<size_t>(base))) return -1;
    if (actions && r == FTW_SKIP_SIBLINGS) r = 0;
    if (r == 0 && after) r = report(st, FTW_DP, base, level);
    return r;
  }

  int children(DIR* dir, size_t len, int level) {
    while (struct dirent64* e = larder_readdir64(dir)) {
      const char* name = e->d_name;
      if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) continue;
      size_t at = path_[len - 1] == '/' ? len : len + 1, n = strlen(name);
      if (at + n >= PATH_MAX) return fail(ENAMETOOLONG);
      path_[at - 1] = '/';
      memcpy(path_ + at, name, n + 1);
      if (int r = visit(at + n, static_cast<int>(at), level + 1)) return r;
    }
    return 0;
  }

  WalkCall<Stat> call_;
  int flags_;
  dev_t device_ = 0;
  char* path_ = nullptr;  // as the caller wrote it, inside full_
  char full_[2 * PATH_MAX];
};

// Trees with a dataset in them, or a folder above one.
template <typename Stat, typename Native>
int walk_wrapper(const char* name, WalkCall<Stat> call, int flags, Native native) {
  struct stat st, real;
  char path[PATH_MAX];
  size_t len = name != nullptr ? strlen(name) : 0;
  if (current_state() == nullptr || len == 0 || len >= PATH_MAX) return native();
  memcpy(path, name, len + 1);
  while (len > 1 && path[len - 1] == '/')
    path[--len] = 0;  // as glibc: "file/" is a file
  if (larder_stat(path, &st) != 0) {
    const int error = errno;
    int r = native();  // a symlink that leads nowhere is reported as one
    if (r == -1 && errno == ENOENT) errno = error;
    return r;
  }
  bool ours = (path[0] != '/' && cwd_is_ours()) || sys::fstatat(AT_FDCWD, path, &real, 0) != 0 ||
              real.st_dev != st.st_dev || real.st_ino != st.st_ino;
  if (!ours && ancestor_entry(real) == kNoEntry) return native();
  return Walk<Stat>(call, flags).run(path);
}

}  // namespace
}  // namespace larder

using namespace larder;

int larder_glob(const char* pattern, int flags, int (*on_error)(const char*, int), glob_t* out) {
  resolve_next();
  return glob_wrapper(pattern, flags, on_error, out, next.glob);
}
int larder_glob64(const char* pattern, int flags, int (*on_error)(const char*, int), glob64_t* out) {
  resolve_next();
  return glob_wrapper(pattern, flags, on_error, out, next.glob64);
}

#define FTW_CALL(name, type)                                                                             \
  int larder_##name(const char* path, int (*fn)(const char*, const type*, int), int fds) {               \
    resolve_next();                                                                                      \
    return walk_wrapper(path, WalkCall<type>{fn, nullptr}, 0, [&] { return next.name(path, fn, fds); }); \
  }
FTW_CALL(ftw, struct stat)
FTW_CALL(ftw64, struct stat64)

#define NFTW_CALL(name, type)                                                                                       \
  int larder_##name(const char* path, int (*fn)(const char*, const type*, int, struct FTW*), int fds, int flags) {  \
    resolve_next();                                                                                                 \
    return walk_wrapper(path, WalkCall<type>{nullptr, fn}, flags, [&] { return next.name(path, fn, fds, flags); }); \
  }
NFTW_CALL(nftw, struct stat)
NFTW_CALL(nftw64, struct stat64)
