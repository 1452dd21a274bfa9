#include "cached/home/home.h"

#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>

#include "cached/base/files.h"
#include "cached/home/own_home.h"
#include "larder/names.h"

namespace larder {

static bool same_directory(int a, int b) {
  struct stat x, y;
  return ::fstat(a, &x) == 0 && ::fstat(b, &y) == 0 && S_ISDIR(x.st_mode) && x.st_dev == y.st_dev &&
         x.st_ino == y.st_ino;
}

static bool is_read_only(int fd) {
  struct statvfs s;
  return ::fstatvfs(fd, &s) == 0 && (s.f_flag & ST_RDONLY) != 0;
}

static Result<Fd> path_descriptor(int dir, const std::string& path) {
  Fd fd(::openat(dir, path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return os_error("cannot open " + path);
  return fd;
}

// ---- a folder

Result<Home> Home::folder(const std::string& path, mode_t mode) {
  const size_t slash = path.rfind('/');
  if (slash != 0 && slash != path.npos)
    if (Status s = make_dirs(path.substr(0, slash), 0755); !s) return s.error();
  bool made = false;
  Result<Fd> root = make_dir(AT_FDCWD, path, mode, &made);
  if (!root) return make_error(root.error().code, root.error().message + "; choose another with --cache-dir");
  Home home;
  home.path_ = path;
  home.root_ = std::move(*root);
  home.was_there_ = !made;
  if (Status s = home.check_owner(mode); !s) return s.error();
  struct statfs fs;
  home.in_memory_ = ::fstatfs(home.fd(), &fs) == 0 && fs.f_type == TMPFS_MAGIC;
  if (Status s = home.add_view(path); !s) return s.error();
  return home;
}

Result<Home> Home::folder(const std::string& path, mode_t mode, const std::string& read_only) {
  Result<Home> home = folder(path, mode);
  if (!home) return home;
  if (Status s = home->add_view(read_only); !s) return s.error();
  if (!same_directory(home->fd(), home->view().get()))
    return make_error(
        EINVAL, fmt::format("cache_dir_readonly {} is not the folder {}; bind-mount that one there", read_only, path));
  if (!home->read_only())
    return make_error(EINVAL, fmt::format("cache_dir_readonly {} is not mounted read-only; mount it so", read_only));
  return home;
}

// A folder that was there may have the mode that an older larderd gave it.
Status Home::check_owner(mode_t mode) const {
  struct stat st;
  if (::fstat(root_.get(), &st) != 0) return os_error("cannot stat " + path_);
  if (st.st_uid != ::geteuid())
    return make_error(
        EACCES, fmt::format("cache folder {} belongs to user {}; choose another with --cache-dir", path_, st.st_uid));
  if ((st.st_mode & 022) != 0)
    return make_error(EACCES,
                      fmt::format("cache folder {} may be written by others; make it {:04o} or choose another with "
                                  "--cache-dir",
                                  path_, mode));
  if ((st.st_mode & 077 & ~mode) != 0 && ::fchmod(root_.get(), mode) != 0)
    return os_error("cannot set the mode of " + path_);
  return {};
}

Status Home::add_view(const std::string& path) {
  Result<Fd> view = path_descriptor(AT_FDCWD, path);
  if (!view) return view.error();
  view_ = std::move(*view);
  read_only_ = is_read_only(view_.get());
  return {};
}

// ---- memory of its own

Result<Home> Home::own(uint64_t bytes, uint64_t inodes) {
  Result<OwnHome> made = make_own_home(bytes, inodes);
  if (!made) return made.error();
  Result<Fd> root = open_dir(made->writable.get(), ".");
  if (!root) return root.error();
  Result<Home> home = of_views(std::move(*root), made->readable);
  if (!home) return home;
  home->unlocked_ = !made->locked;
  return home;
}

Result<Home> Home::kept(StoredDescriptors& stored) {
  Fd writable = stored.take(kHomeDescriptor), readable = stored.take(kViewDescriptor);
  if (!writable.valid() && !readable.valid()) return make_error(ENOENT, "no home was kept");
  Result<Home> home = of_views(std::move(writable), readable);
  if (home) home->was_there_ = true;
  return home;
}

Result<Home> Home::of_views(Fd writable, const Fd& readable) {
  struct statfs fs;
  const bool good = ::fstatfs(writable.get(), &fs) == 0 && fs.f_type == TMPFS_MAGIC && !is_read_only(writable.get()) &&
                    same_directory(writable.get(), readable.get()) && is_read_only(readable.get());
  if (!good) return make_error(EBADMSG, "the descriptors are not the two views of a cache");
  Result<Fd> view = path_descriptor(readable.get(), ".");
  if (!view) return view.error();
  Home home;
  home.kind_ = HomeKind::kOwn;
  home.root_ = std::move(writable);
  home.view_ = std::move(*view);
  home.read_only_ = true;
  return home;
}

Status Home::keep() const {
  if (kind_ != HomeKind::kOwn) return {};
  Result<Fd> view = open_dir(view_.get(), ".");
  if (!view) return view.error();
  if (Status s = store(kHomeDescriptor, fd()); !s) return s;
  return store(kViewDescriptor, view->get());
}

std::string Home::name() const {
  return kind_ == HomeKind::kOwn ? "memory of its own" : path_;
}

}  // namespace larder
