// opendir(3) and its family: directory streams as programs see them. scandir.cc and getdents.cc have the calls that
// make a list at once.
#include <errno.h>

#include "preload/base/next.h"
#include "preload/base/sys.h"
#include "preload/wrap/directory_stream.h"

using namespace larder;

DIR* larder_opendir(const char* path) {
  resolve_next();
  return dispatch(
      AT_FDCWD, path, true, [&](Found& f) { return open_directory_stream(f, -1); },
      [&](int, const char* p) -> DIR* { return with_mount_points(next.opendir(p)); });
}

DIR* larder_fdopendir(int fd) {
  resolve_next();
  struct stat st;
  Identity id;
  if (current_state() != nullptr && sys::fstat(fd, &st) == 0) id = identify(st);
  if (id.kind == Kind::kFile) return errno = ENOTDIR, nullptr;
  Scratch<Found> f;
  // The program goes on using its descriptor: the stream must not close it.
  if (id.kind == Kind::kNone && current_state() != nullptr && f && sys::fstat(fd, &st) == 0 &&
      route_covered(st, f.get())) {
    return open_directory_stream(*f.get(), fd);
  }
  if (id.kind != Kind::kDirectory && id.kind != Kind::kAbove) return with_mount_points(next.fdopendir(fd));
  struct Text {
    char path[PATH_MAX];
  };
  Scratch<Text> text;
  if (!f || !text) return errno = ENOMEM, nullptr;
  long n = directory_path(id, text->path);
  if (n < 0) return errno = static_cast<int>(-n), nullptr;
  if (!route_missing(AT_FDCWD, text->path, true, f.get())) return errno = ENOENT, nullptr;
  return open_directory_stream(*f.get(), fd);
}

int larder_closedir(DIR* dir) {
  resolve_next();
  DirectoryStream* s = our_stream(dir);
  if (s == nullptr) return next.closedir(dir);
  return close_stream(s);
}

struct dirent64* larder_readdir64(DIR* dir) {
  DirectoryStream* s = our_stream(dir);
  if (s == nullptr) return resolve_next(), next.readdir64(dir);
  return read_entry(s, &s->entry) ? &s->entry : nullptr;
}

struct dirent* larder_readdir(DIR* dir) {
  DirectoryStream* s = our_stream(dir);
  if (s == nullptr) return resolve_next(), next.readdir(dir);
  return reinterpret_cast<struct dirent*>(read_entry(s, &s->entry) ? &s->entry : nullptr);
}

int larder_readdir64_r(DIR* dir, struct dirent64* entry, struct dirent64** result) {
  DirectoryStream* s = our_stream(dir);
  if (s == nullptr) return resolve_next(), next.readdir64_r(dir, entry, result);
  *result = read_entry(s, entry) ? entry : nullptr;
  return 0;
}

int larder_readdir_r(DIR* dir, struct dirent* entry, struct dirent** result) {
  DirectoryStream* s = our_stream(dir);
  if (s == nullptr) return resolve_next(), next.readdir_r(dir, entry, result);
  *result = read_entry(s, reinterpret_cast<struct dirent64*>(entry)) ? entry : nullptr;
  return 0;
}

void larder_rewinddir(DIR* dir) {
  DirectoryStream* s = our_stream(dir);
  if (s == nullptr)
    resolve_next(), next.rewinddir(dir);
  else
    seek_stream(s, 0);
}

void larder_seekdir(DIR* dir, long pos) {
  DirectoryStream* s = our_stream(dir);
  if (s == nullptr)
    resolve_next(), next.seekdir(dir, pos);
  else
    seek_stream(s, static_cast<uint64_t>(pos));
}

long larder_telldir(DIR* dir) {
  DirectoryStream* s = our_stream(dir);
  if (s == nullptr) return resolve_next(), next.telldir(dir);
  return tell_stream(s);
}

int larder_dirfd(DIR* dir) {
  DirectoryStream* s = our_stream(dir);
  if (s == nullptr) return resolve_next(), next.dirfd(dir);
  return stream_fd(s);
}
