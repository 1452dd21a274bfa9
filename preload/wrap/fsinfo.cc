// statfs, pathconf, extended attributes, watches, handles.
#include <errno.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "preload/base/next.h"
#include "preload/base/sys.h"
#include "preload/wrap/open.h"

namespace larder {
namespace {

constexpr long kMagic = 0x4452414c;  // "LARD": no program takes it for a tmpfs, an NFS or a local disk
constexpr long kBlock = 4096;
constexpr unsigned long kFlags = ST_RDONLY | ST_NOSUID | ST_NODEV;

struct Volume {
  uint64_t dataset_id = 0, bytes = 0, files = 0;
};

void fill(const Volume& v, struct statfs* out) {
  memset(out, 0, sizeof(*out));
  out->f_type = kMagic;
  out->f_bsize = out->f_frsize = kBlock;
  out->f_blocks = (v.bytes + kBlock - 1) / kBlock;
  out->f_files = v.files;
  out->f_namelen = NAME_MAX;
  out->f_flags = static_cast<long>(kFlags) | 0x20;  // ST_VALID
  out->f_fsid.__val[0] = static_cast<int>(v.dataset_id);
  out->f_fsid.__val[1] = static_cast<int>(v.dataset_id >> 32);
}

void fill(const Volume& v, struct statvfs* out) {
  memset(out, 0, sizeof(*out));
  out->f_bsize = out->f_frsize = kBlock;
  out->f_blocks = (v.bytes + kBlock - 1) / kBlock;
  out->f_files = v.files;
  out->f_namemax = NAME_MAX;
  out->f_flag = kFlags;
  out->f_fsid = v.dataset_id;
}

static_assert(sizeof(struct statfs) == sizeof(struct statfs64) && sizeof(struct statvfs) == sizeof(struct statvfs64));
void fill(const Volume& v, struct statfs64* out) {
  fill(v, reinterpret_cast<struct statfs*>(out));
}
void fill(const Volume& v, struct statvfs64* out) {
  fill(v, reinterpret_cast<struct statvfs*>(out));
}

// A symlink led to a folder that a mount covers.
template <typename Buf>
void fill_covering(const char* path, Buf* buf) {
  State* s = current_state();
  struct stat st;
  if (s == nullptr || s->covered_count == 0 || sys::fstatat(AT_FDCWD, path, &st, 0) != 0) return;
  Scratch<Found> f;
  if (f && route_covered(st, f.get())) fill({f->dataset_id, f->total_bytes, f->file_count}, buf);
}

template <typename Buf, typename Native>
int path_volume(const char* path, Buf* buf, Native native) {
  resolve_next();
  return dispatch(
      AT_FDCWD, path, true,
      [&](Found& f) {
        if (f.kind == Kind::kMissing) return fail(f.error);
        fill({f.dataset_id, f.total_bytes, f.file_count}, buf);
        return 0;
      },
      [&](int at, const char* p) {
        int r = native(at, p);
        if (r == 0) fill_covering(p, buf);
        return r;
      });
}

template <typename Buf, typename Native>
int fd_volume(int fd, Buf* buf, Native native) {
  resolve_next();
  struct stat st;
  Session session;
  if (!enter(&session) || sys::fstat(fd, &st) != 0) return native();
  Identity id = identify(st);
  if (id.kind == Kind::kNone) return native();
  Volume v;
  v.dataset_id = id.dataset_id;
  for (uint32_t i = 0; i < session.state->mount_count; ++i) {
    const StateMount& m = session.state->mounts[i];
    if (m.dataset_id == id.dataset_id) v.bytes = m.total_bytes, v.files = m.file_count;
  }
  fill(v, buf);
  return 0;
}

bool is_ours(int fd) {
  struct stat st;
  return current_state() != nullptr && sys::fstat(fd, &st) == 0 && identify(st).kind != Kind::kNone;
}

bool is_handle(int fd) {
  return (sys::fcntl(fd, F_GETFL, 0) & O_PATH) != 0;
}

// No extended attributes, on a file system that could have some.
ssize_t no_attribute(const Lookup& f) {
  return fail(f.kind == Kind::kMissing ? f.error : ENODATA);
}
ssize_t no_attributes(const Lookup& f) {
  return f.kind == Kind::kMissing ? fail(f.error) : 0;
}

// A dataset never changes under a watcher. The watch is on the real file, so that it is valid and stays silent.
int watch(Found& f, int inotify, uint32_t mask) {
  int fd = open_found(f, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fail(-fd);
  char path[32];
  sys::fd_path(fd, path);
  int r = next.inotify_add_watch(inotify, path, mask & ~static_cast<uint32_t>(IN_DONT_FOLLOW));
  int error = errno;
  sys::close(fd);
  errno = error;
  return r;
}

}  // namespace
}  // namespace larder

using namespace larder;

#define VOLUME(name, type)                                                                \
  int larder_##name(const char* path, type* buf) {                                        \
    return path_volume(path, buf, [&](int, const char* p) { return next.name(p, buf); }); \
  }
#define FD_VOLUME(name, type)                                      \
  int larder_##name(int fd, type* buf) {                           \
    return fd_volume(fd, buf, [&] { return next.name(fd, buf); }); \
  }
VOLUME(statfs, struct statfs)
VOLUME(__statfs, struct statfs)
VOLUME(statfs64, struct statfs64)
VOLUME(statvfs, struct statvfs)
VOLUME(statvfs64, struct statvfs64)
FD_VOLUME(fstatfs, struct statfs)
FD_VOLUME(fstatfs64, struct statfs64)
FD_VOLUME(fstatvfs, struct statvfs)
FD_VOLUME(fstatvfs64, struct statvfs64)

long larder_pathconf(const char* path, int name) {
  resolve_next();
  return dispatch(
      AT_FDCWD, path, true,
      [&](Found& f) -> long { return f.kind == Kind::kMissing ? fail(f.error) : next.pathconf("/", name); },
      [&](int, const char* p) { return next.pathconf(p, name); });
}

long larder_fpathconf(int fd, int name) {
  resolve_next();
  return is_ours(fd) ? next.pathconf("/", name) : next.fpathconf(fd, name);
}

ssize_t larder_fgetxattr(int fd, const char* attribute, void* value, size_t size) {
  resolve_next();
  return is_ours(fd) ? fail(is_handle(fd) ? EBADF : ENODATA) : next.fgetxattr(fd, attribute, value, size);
}
ssize_t larder_flistxattr(int fd, char* list, size_t size) {
  resolve_next();
  if (!is_ours(fd)) return next.flistxattr(fd, list, size);
  return is_handle(fd) ? fail(EBADF) : 0;
}

#define GET_ATTRIBUTE(name, follow)                                                          \
  ssize_t larder_##name(const char* path, const char* attribute, void* value, size_t size) { \
    resolve_next();                                                                          \
    return dispatch(                                                                         \
        AT_FDCWD, path, follow, [](Found& f) { return no_attribute(f); },                    \
        [&](int, const char* p) { return next.name(p, attribute, value, size); });           \
  }
GET_ATTRIBUTE(getxattr, true)
GET_ATTRIBUTE(lgetxattr, false)

#define LIST_ATTRIBUTES(name, follow)                                      \
  ssize_t larder_##name(const char* path, char* list, size_t size) {       \
    resolve_next();                                                        \
    return dispatch(                                                       \
        AT_FDCWD, path, follow, [](Found& f) { return no_attributes(f); }, \
        [&](int, const char* p) { return next.name(p, list, size); });     \
  }
LIST_ATTRIBUTES(listxattr, true)
LIST_ATTRIBUTES(llistxattr, false)

int larder_inotify_add_watch(int fd, const char* path, uint32_t mask) {
  resolve_next();
  return dispatch(
      AT_FDCWD, path, true, [&](Found& f) { return watch(f, fd, mask); },
      [&](int, const char* p) { return next.inotify_add_watch(fd, p, mask); });
}

// As inotify; the descriptor says what is marked.
int larder_fanotify_mark(int fanotify, unsigned flags, uint64_t mask, int dirfd, const char* path) {
  resolve_next();
  if (path == nullptr) return next.fanotify_mark(fanotify, flags, mask, dirfd, path);
  return dispatch(
      dirfd, path, (flags & FAN_MARK_DONT_FOLLOW) == 0,
      [&](Found& f) {
        sys::Fd fd(open_found(f, O_RDONLY | O_CLOEXEC));
        if (fd.get() < 0) return fail(-fd.get());
        return next.fanotify_mark(fanotify, flags & ~static_cast<unsigned>(FAN_MARK_DONT_FOLLOW), mask, fd.get(),
                                  nullptr);
      },
      [&](int at, const char* p) { return next.fanotify_mark(fanotify, flags, mask, at, p); });
}

int larder_name_to_handle_at(int dirfd, const char* path, struct file_handle* handle, int* mount_id, int flags) {
  resolve_next();
  return dispatch(
      dirfd, path, (flags & AT_SYMLINK_FOLLOW) != 0,
      [](Found& f) { return fail(f.kind == Kind::kMissing ? f.error : EOPNOTSUPP); },
      [&](int at, const char* p) { return next.name_to_handle_at(at, p, handle, mount_id, flags); });
}
