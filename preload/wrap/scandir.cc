// scandir(3) and scandirat(3). libc's own would not see our streams: it calls its own readdir.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "preload/base/next.h"
#include "preload/base/sys.h"
#include "preload/wrap/directory_stream.h"
#include "preload/wrap/open.h"

using namespace larder;

namespace {

// Copies of entries, each from malloc, as scandir's caller frees them.
template <typename Entry>
struct EntryList {
  Entry** entries = nullptr;
  size_t count = 0, room = 0;

  bool grow() {
    const size_t more = room != 0 ? room * 2 : 32;
    auto* grown = static_cast<Entry**>(realloc(entries, more * sizeof(Entry*)));
    if (grown == nullptr) return false;
    entries = grown;
    room = more;
    return true;
  }

  // False: no memory.
  bool add(const struct dirent64* e) {
    if (count == room && !grow()) return false;
    auto* copy = static_cast<Entry*>(malloc(e->d_reclen));
    if (copy == nullptr) return false;
    memcpy(static_cast<void*>(copy), e, e->d_reclen);
    entries[count++] = copy;
    return true;
  }

  void free_all() {
    while (count > 0)
      free(entries[--count]);
    free(entries);
  }
};

template <typename Entry>
bool collect(DIR* dir, int (*filter)(const Entry*), EntryList<Entry>* list) {
  while (struct dirent64* e = larder_readdir64(dir)) {
    if (filter != nullptr && !filter(reinterpret_cast<Entry*>(e))) continue;
    if (!list->add(e)) return false;
  }
  return list->entries != nullptr || list->grow();  // an empty list is freed, too
}

// Collects a stream's entries as scandir(3) does; closes the stream.
template <typename Entry>
int scan(DIR* dir, Entry*** out, int (*filter)(const Entry*), int (*compare)(const Entry**, const Entry**)) {
  if (dir == nullptr) return -1;
  EntryList<Entry> list;
  const bool complete = collect(dir, filter, &list);
  larder_closedir(dir);
  if (!complete) {
    list.free_all();
    return fail(ENOMEM);
  }
  if (compare != nullptr && list.count > 1)
    qsort(list.entries, list.count, sizeof(Entry*), reinterpret_cast<int (*)(const void*, const void*)>(compare));
  *out = list.entries;
  return static_cast<int>(list.count);
}

// A real folder with mount points in it, which libc's scandir would not list; or a lazy file by way of /proc/self/fd,
// which it would.
bool kernel_is_wrong(int dirfd, const char* path) {
  struct stat st;
  return current_state() != nullptr && path != nullptr && sys::fstatat(dirfd, path, &st, 0) == 0 &&
         (ancestor_entry(st) != kNoEntry || identify(st).lazy);
}

DIR* opendir_at(int dirfd, const char* path) {
  if (dirfd == AT_FDCWD || path[0] == '/') return larder_opendir(path);
  int fd = open_any(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return nullptr;
  DIR* dir = larder_fdopendir(fd);
  if (dir == nullptr) sys::close(fd);
  return dir;
}

template <typename Entry, typename Native>
int scandir_wrapper(int dirfd, const char* path, Entry*** list, int (*filter)(const Entry*),
                    int (*compare)(const Entry**, const Entry**), Native native) {
  resolve_next();
  return dispatch(
      dirfd, path, true, [&](Found& f) { return scan(open_directory_stream(f, -1), list, filter, compare); },
      [&](int at, const char* p) {
        return kernel_is_wrong(at, p) ? scan(opendir_at(at, p), list, filter, compare) : native(at, p);
      });
}

}  // namespace

#define SCANDIR(name, type)                                                                          \
  int larder_##name(const char* path, type*** list, int (*filter)(const type*),                      \
                    int (*compare)(const type**, const type**)) {                                    \
    return scandir_wrapper(AT_FDCWD, path, list, filter, compare,                                    \
                           [&](int, const char* p) { return next.name(p, list, filter, compare); }); \
  }
SCANDIR(scandir, struct dirent)
SCANDIR(scandir64, struct dirent64)

#define SCANDIRAT(name, type)                                                                               \
  int larder_##name(int dirfd, const char* path, type*** list, int (*filter)(const type*),                  \
                    int (*compare)(const type**, const type**)) {                                           \
    return scandir_wrapper(dirfd, path, list, filter, compare,                                              \
                           [&](int at, const char* p) { return next.name(at, p, list, filter, compare); }); \
  }
SCANDIRAT(scandirat, struct dirent)
SCANDIRAT(scandirat64, struct dirent64)
