#include "preload/resolve/symlink_walk.h"

#include <string.h>

#include "preload/resolve/fd_paths.h"

namespace larder {
namespace {

// One walk of a path, as the kernel makes it, with our datasets in the tree.
class Walker {
 public:
  bool crossed() const { return crossed_; }  // it went through a mount, where the kernel could not follow

  // `out` holds an absolute path of length n ("" is the root) and has PATH_MAX bytes. Returns the length of the result,
  // or -errno.
  long walk(const State* s, char* out, size_t n, const char* path, bool follow_last) {
    s_ = s;
    out_ = out;
    n_ = n;
    size_t len = strlen(path);
    if (len >= sizeof(rest_)) return -ENAMETOOLONG;
    size_t at = sizeof(rest_) - 1 - len;
    memcpy(rest_ + at, path, len + 1);
    return run(at, follow_last);
  }

 private:
  long run(size_t at, bool follow_last) {
    for (;;) {
      while (rest_[at] == '/')
        ++at;
      if (rest_[at] == 0) break;
      size_t end = at;
      while (rest_[end] != 0 && rest_[end] != '/')
        ++end;
      size_t more = end;
      while (rest_[more] == '/')
        ++more;
      bool last = rest_[more] == 0;
      long r = step(at, end, last, follow_last || rest_[end] == '/', &at);
      if (r < 0) return r;
    }
    out_[n_] = 0;
    return static_cast<long>(n_);
  }

  // Takes the component rest_[from, to). *at: where the rest begins afterwards.
  long step(size_t from, size_t to, bool last, bool follow, size_t* at) {
    const char* name = rest_ + from;
    size_t len = to - from;
    *at = to;
    if (len == 1 && name[0] == '.') return 0;
    if (len == 2 && name[0] == '.' && name[1] == '.') {
      while (n_ > 0 && out_[--n_] != '/') {
      }
      return 0;
    }
    if (n_ + 1 + len >= PATH_MAX) return -ENAMETOOLONG;
    size_t parent = n_;
    out_[n_++] = '/';
    memcpy(out_ + n_, name, len);
    n_ += len;
    out_[n_] = 0;
    if (const StateMount* m = mount_of(s_, out_, n_)) {
      crossed_ = true;
      if (len > NAME_MAX && !last) return -ENAMETOOLONG;  // the last one is looked up, and so refused
      return last ? 0 : enter_folder(*m);
    }
    if (last && !follow) return 0;
    return follow_link(parent, to, last, at);
  }

  // Before another component: what we are at must be a folder.
  long enter_folder(const StateMount& m) {
    if (s_->unserved) return 0;  // whoever looks it up waits for larderd
    if (m.view == nullptr) return -EACCES;
    size_t off = n_ > m.path_len ? m.path_len + 1 : n_;
    const Catalog& c = m.view->catalog;
    uint32_t i = c.find(out_ + off, n_ - off);
    if (i != kNoEntry) return c.entries[i].is_file() ? -ENOTDIR : 0;
    return s_->ns != nullptr && s_->ns->catalog.find(out_ + 1, n_ - 1) != kNoEntry ? 0 : -ENOENT;
  }

  long follow_link(size_t parent, size_t to, bool last, size_t* at) {
    long t = sys::readlinkat(AT_FDCWD, out_, target_, sizeof(target_) - 1);
    if (t < 0) return 0;  // no symlink, or not there: go on lexically, whoever asked finds out
    if (++links_ > 40) return -ELOOP;
    size_t len = static_cast<size_t>(t);
    if (len > to) return -ENAMETOOLONG;
    // Ours behind /proc/self/fd/N or /proc/self/cwd: the text is the cache's, which may have no path at all, and the
    // inode says what it is.
    struct stat st;
    if (out_[1] == 'p' && sys::fstatat(AT_FDCWD, out_, &st, 0) == 0) {
      Identity id = identify(st);
      if (id.kind == Kind::kDirectory || id.kind == Kind::kAbove) {
        long n = directory_path(id, out_);
        if (n < 0) return n;
        n_ = static_cast<size_t>(n);
        return 0;
      }
      if (id.lazy && !last) return -ENOTDIR;
      if (const long n = id.kind == Kind::kFile && last ? file_path(id, out_) : -ENOENT; n >= 0) {
        n_ = static_cast<size_t>(n);
        return 0;
      }
    }
    *at = to - len;
    memcpy(rest_ + *at, target_, len);
    n_ = target_[0] == '/' ? 0 : parent;
    return 0;
  }

  const State* s_ = nullptr;
  char* out_ = nullptr;
  size_t n_ = 0;
  int links_ = 0;
  bool crossed_ = false;
  char target_[PATH_MAX];
  char rest_[2 * PATH_MAX];
};

}  // namespace

long walk_from(int dirfd, const char* path, bool follow_last, char* out, bool* crossed) {
  Session session;
  if (!enter(&session)) return -ENOENT;
  long n = path[0] == '/' ? 0 : any_base(dirfd, out);
  if (n < 0) return n;
  Scratch<Walker> walker;
  if (!walker) return -ENOMEM;
  n = walker->walk(session.state, out, static_cast<size_t>(n), path, follow_last);
  *crossed = walker->crossed();
  return left_intact(session) ? n : walk_from(dirfd, path, follow_last, out, crossed);
}

}  // namespace larder
