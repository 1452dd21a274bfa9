#include "preload/wrap/dir.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "preload/base/next.h"
#include "preload/base/sys.h"
#include "preload/wrap/open.h"

namespace larder {
namespace {

// A directory stream of ours. Lists, in this order: "." and "..", the children in the dataset's catalog (or, for a real
// folder above mount points, what libc's stream gives), then mount points that are not among them.
// Streams lie in one range of addresses, so that a DIR* of libc is told apart by a comparison.
struct Stream {
  int fd;  // first, as in libc's: un-hooked dirfd() reads it. -1: not opened yet
  Kind kind;
  uint64_t dataset_id;
  uint64_t inode;  // virtual; of the parent, too
  uint64_t parent_inode;
  DIR* native;  // a real folder above mount points, or null
  View* view;   // children [first, first + count)
  uint32_t first, count;
  View* ns;  // mount points [ns_first, ns_first + ns_count)
  uint32_t ns_first, ns_count;
  uint64_t pos;          // what comes next: 0 ".", 1 "..", 2.. children, kNsBase.. mount points
  uint64_t native_seen;  // bit i: the real folder has a name like mount point i
  struct dirent64 entry;
};

constexpr uint64_t kNsBase = 1ULL << 63;  // negative to telldir's callers: real file systems give any positive number
constexpr size_t kSlotBytes = 512;
constexpr uint32_t kSlots = 4096;
static_assert(sizeof(Stream) <= kSlotBytes);
static_assert(sizeof(struct dirent) == sizeof(struct dirent64));

constinit std::atomic<char*> arena{nullptr};
constinit std::atomic<uint64_t> used[kSlots / 64] = {};

char* get_arena() {
  char* a = arena.load(std::memory_order_acquire);
  if (a != nullptr) return a;
  auto* fresh = static_cast<char*>(sys::mmap(nullptr, kSlotBytes * kSlots, PROT_READ | PROT_WRITE,
                                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (fresh == nullptr) return nullptr;
  if (arena.compare_exchange_strong(a, fresh, std::memory_order_acq_rel)) return fresh;
  sys::munmap(fresh, kSlotBytes * kSlots);
  return a;
}

Stream* ours(DIR* dir) {
  char* a = arena.load(std::memory_order_relaxed);
  auto* p = reinterpret_cast<char*>(dir);
  return a != nullptr && p >= a && p < a + kSlotBytes * kSlots ? reinterpret_cast<Stream*>(p) : nullptr;
}

Stream* take_stream() {
  char* a = get_arena();
  for (uint32_t w = 0; a != nullptr && w < kSlots / 64; ++w) {
    uint64_t bits = used[w].load(std::memory_order_relaxed);
    while (~bits != 0) {
      int b = __builtin_ctzll(~bits);
      if (!used[w].compare_exchange_weak(bits, bits | 1ULL << b, std::memory_order_acq_rel)) continue;
      auto* s = reinterpret_cast<Stream*>(a + (w * 64 + static_cast<uint32_t>(b)) * kSlotBytes);
      memset(static_cast<void*>(s), 0, sizeof(Stream));
      s->fd = -1;
      return s;
    }
  }
  errno = EMFILE;
  return nullptr;
}

void hold(View* v) {
  if (v != nullptr) v->holders.fetch_add(1, std::memory_order_acq_rel);
}
void let_go(View* v) {
  if (v != nullptr) v->holders.fetch_sub(1, std::memory_order_acq_rel);
}

void give_back(Stream* s) {
  let_go(s->view);
  let_go(s->ns);
  auto slot = static_cast<uint32_t>((reinterpret_cast<char*>(s) - arena.load()) / static_cast<long>(kSlotBytes));
  used[slot / 64].fetch_and(~(1ULL << (slot % 64)), std::memory_order_release);
}

// Holds the views of `f`, if they still are the process's. False: look up again.
bool hold_views(const Found& f) {
  hold(f.view);
  if (f.ns != f.view) hold(f.ns);
  State* s = current_state();
  if (s != nullptr && s->generation == f.generation) return true;
  let_go(f.view);
  if (f.ns != f.view) let_go(f.ns);
  return false;
}

void add_mount_points(Stream* s, View* ns, uint32_t entry) {
  if (ns == nullptr || entry == kNoEntry) return;
  const CatalogEntry& e = ns->catalog.entries[entry];
  if (e.is_file() || e.dir.child_count == 0) return;
  s->ns_first = e.dir.first_child;
  s->ns_count = e.dir.child_count < 64 ? e.dir.child_count : 64;
}

// A stream over a folder of ours; fd -1 or the descriptor it came from, which it owns then. Null and errno, fd still
// open.
DIR* open_stream(Found& f, int fd) {
  if (f.kind == Kind::kMissing) return errno = f.error, nullptr;
  if (f.kind == Kind::kFile) return errno = ENOTDIR, nullptr;
  Stream* s = take_stream();
  if (s == nullptr) return nullptr;
  while (!hold_views(f)) {
    if (!route(AT_FDCWD, f.path, &f) || !f.is_dir()) {
      give_back(s);
      return errno = ENOENT, nullptr;
    }
  }
  s->fd = fd;
  s->kind = f.kind;
  s->dataset_id = f.dataset_id;
  s->inode = f.entry.dir_hash;
  s->view = f.view;
  s->ns = f.ns == f.view ? nullptr : f.ns;
  const Catalog& c = f.view->catalog;
  s->parent_inode = c.entries[f.entry.is_dir() ? c.entries[f.index].parent : 0].dir_hash;
  s->first = f.entry.dir.first_child;
  s->count = f.entry.dir.child_count;
  if (f.kind == Kind::kDirectory) add_mount_points(s, s->ns, f.above);
  count(&StatSlot::lists);
  return reinterpret_cast<DIR*>(s);
}

// The stream of what covers a real folder, or null.
DIR* open_covering(const struct stat& st) {
  Scratch<Found> f;
  return f && route_covered(st, f.get()) ? open_stream(*f.get(), -1) : nullptr;
}

// A real folder above mount points: libc's stream with the mount points behind it.
DIR* wrap_native(DIR* dir) {
  if (dir == nullptr) return nullptr;
  struct stat st;
  Session session;
  if (!enter(&session) || session.state->ancestor_count == 0 || sys::fstat(next.dirfd(dir), &st) != 0) return dir;
  if (DIR* covering = open_covering(st)) return next.closedir(dir), covering;
  uint32_t entry = ancestor_entry(st);
  if (entry == kNoEntry) return dir;
  set_directory_hint(next.dirfd(dir), true);
  Stream* s = take_stream();
  if (s == nullptr) return dir;
  View* ns = session.state->ns;
  hold(ns);
  if (current_state() != session.state || !left_intact(session)) {
    let_go(ns);
    give_back(s);
    return dir;
  }
  s->native = dir;
  s->ns = ns;
  add_mount_points(s, ns, entry);
  return reinterpret_cast<DIR*>(s);
}

// ---- reading --------------------------------------------------------------------------------------------------------

void set_entry(struct dirent64* out, uint64_t inode, uint8_t type, const char* name, size_t len, uint64_t next_pos) {
  out->d_ino = inode;
  out->d_off = static_cast<off64_t>(next_pos);
  out->d_type = type;
  out->d_reclen = static_cast<unsigned short>((offsetof(struct dirent64, d_name) + len + 1 + 7) & ~size_t{7});
  memcpy(out->d_name, name, len);
  out->d_name[len] = 0;
}

void set_from(struct dirent64* out, const Catalog& c, uint32_t i, uint64_t next_pos) {
  const CatalogEntry& e = c.entries[i];
  set_entry(out, e.inode(), e.is_file() ? DT_REG : DT_DIR, c.name(e), e.name_len, next_pos);
}

// Index among the mount points of this name, or -1.
int mount_point_named(const Stream* s, const char* name, size_t len) {
  for (uint32_t i = 0; i < s->ns_count; ++i) {
    const CatalogEntry& e = s->ns->catalog.entries[s->ns_first + i];
    if (e.name_len == len && memcmp(s->ns->catalog.name(e), name, len) == 0) return static_cast<int>(i);
  }
  return -1;
}

bool next_native(Stream* s, struct dirent64* out) {
  struct dirent64* e = next.readdir64(s->native);
  if (e == nullptr) return false;
  int m = mount_point_named(s, e->d_name, strlen(e->d_name));
  if (m >= 0) s->native_seen |= 1ULL << m;
  set_entry(out, e->d_ino, e->d_type, e->d_name, strlen(e->d_name), static_cast<uint64_t>(e->d_off));
  return true;
}

bool next_child(Stream* s, struct dirent64* out) {
  if (s->pos < 2) {
    set_entry(out, s->pos == 0 ? s->inode : s->parent_inode, DT_DIR, "..", s->pos + 1, s->pos + 1);
    ++s->pos;
    return true;
  }
  while (s->pos - 2 < s->count) {
    uint32_t i = s->first + static_cast<uint32_t>(s->pos - 2);
    ++s->pos;
    const CatalogEntry& e = s->view->catalog.entries[i];
    if (s->ns_count != 0 && mount_point_named(s, s->view->catalog.name(e), e.name_len) >= 0) continue;  // covered
    set_from(out, s->view->catalog, i, s->pos);
    return true;
  }
  return false;
}

// The next entry. False at the end; errno is left alone then, and set if libc's stream failed.
bool read_entry(Stream* s, struct dirent64* out) {
  if (s->pos < kNsBase) {
    int before = errno;
    if (s->native != nullptr) {
      errno = 0;
      if (next_native(s, out)) return errno = before, true;
      if (errno != 0) return false;
      errno = before;
    } else if (next_child(s, out)) {
      return true;
    }
    s->pos = kNsBase;
  }
  while (s->pos - kNsBase < s->ns_count) {
    uint32_t i = static_cast<uint32_t>(s->pos++ - kNsBase);
    if (s->native_seen >> i & 1) continue;
    set_from(out, s->ns->catalog, s->ns_first + i, s->pos);
    return true;
  }
  return false;
}

void seek_stream(Stream* s, uint64_t pos) {
  s->pos = pos;
  if (s->native != nullptr && pos < kNsBase) {
    if (pos == 0) s->native_seen = 0;
    if (pos == 0)
      next.rewinddir(s->native);
    else
      next.seekdir(s->native, static_cast<long>(pos));
  }
}

int stream_fd(Stream* s) {
  if (s->native != nullptr) return next.dirfd(s->native);
  if (s->fd >= 0) return s->fd;
  char path[PATH_MAX];
  long n = directory_path({s->kind, s->inode, s->dataset_id}, path);
  if (n < 0) return fail(static_cast<int>(-n));
  return s->fd = open_any(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

}  // namespace

uint32_t ancestor_entry(const struct stat& st) {
  Session session;
  if (!enter(&session)) return kNoEntry;
  int i = find_ancestor(session.state, st);
  return i >= 0 ? session.state->ancestors[i].entry : kNoEntry;
}

}  // namespace larder

using namespace larder;

DIR* larder_opendir(const char* path) {
  resolve_next();
  return dispatch(
      AT_FDCWD, path, true, [&](Found& f) { return open_stream(f, -1); },
      [&](int, const char* p) -> DIR* { return wrap_native(next.opendir(p)); });
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
    return open_stream(*f.get(), fd);
  }
  if (id.kind != Kind::kDirectory && id.kind != Kind::kAbove) return wrap_native(next.fdopendir(fd));
  struct Text {
    char path[PATH_MAX];
  };
  Scratch<Text> text;
  if (!f || !text) return errno = ENOMEM, nullptr;
  long n = directory_path(id, text->path);
  if (n < 0) return errno = static_cast<int>(-n), nullptr;
  if (!route_missing(AT_FDCWD, text->path, true, f.get())) return errno = ENOENT, nullptr;
  return open_stream(*f.get(), fd);
}

int larder_closedir(DIR* dir) {
  resolve_next();
  Stream* s = ours(dir);
  if (s == nullptr) return next.closedir(dir);
  DIR* native = s->native;
  int fd = s->fd;
  give_back(s);
  if (native != nullptr) return next.closedir(native);
  int r = fd >= 0 ? sys::close(fd) : 0;
  return r < 0 ? fail(-r) : 0;
}

struct dirent64* larder_readdir64(DIR* dir) {
  Stream* s = ours(dir);
  if (s == nullptr) return resolve_next(), next.readdir64(dir);
  return read_entry(s, &s->entry) ? &s->entry : nullptr;
}

struct dirent* larder_readdir(DIR* dir) {
  Stream* s = ours(dir);
  if (s == nullptr) return resolve_next(), next.readdir(dir);
  return reinterpret_cast<struct dirent*>(read_entry(s, &s->entry) ? &s->entry : nullptr);
}

int larder_readdir64_r(DIR* dir, struct dirent64* entry, struct dirent64** result) {
  Stream* s = ours(dir);
  if (s == nullptr) return resolve_next(), next.readdir64_r(dir, entry, result);
  *result = read_entry(s, entry) ? entry : nullptr;
  return 0;
}

int larder_readdir_r(DIR* dir, struct dirent* entry, struct dirent** result) {
  Stream* s = ours(dir);
  if (s == nullptr) return resolve_next(), next.readdir_r(dir, entry, result);
  *result = read_entry(s, reinterpret_cast<struct dirent64*>(entry)) ? entry : nullptr;
  return 0;
}

void larder_rewinddir(DIR* dir) {
  Stream* s = ours(dir);
  if (s == nullptr)
    resolve_next(), next.rewinddir(dir);
  else
    seek_stream(s, 0);
}

void larder_seekdir(DIR* dir, long pos) {
  Stream* s = ours(dir);
  if (s == nullptr)
    resolve_next(), next.seekdir(dir, pos);
  else
    seek_stream(s, static_cast<uint64_t>(pos));
}

long larder_telldir(DIR* dir) {
  Stream* s = ours(dir);
  if (s == nullptr) return resolve_next(), next.telldir(dir);
  if (s->native != nullptr && s->pos < kNsBase) return next.telldir(s->native);
  return static_cast<long>(s->pos);
}

int larder_dirfd(DIR* dir) {
  Stream* s = ours(dir);
  if (s == nullptr) return resolve_next(), next.dirfd(dir);
  return stream_fd(s);
}

// ---- scandir --------------------------------------------------------------------------------------------------------

namespace {

// Collects a stream's entries as scandir(3) does; closes the stream.
template <typename Entry>
int scan(DIR* dir, Entry*** list, int (*filter)(const Entry*), int (*compare)(const Entry**, const Entry**)) {
  if (dir == nullptr) return -1;
  Entry** found = nullptr;
  size_t n = 0, room = 0;
  bool failed = false;
  while (struct dirent64* e = larder_readdir64(dir)) {
    if (filter != nullptr && !filter(reinterpret_cast<Entry*>(e))) continue;
    if (n == room) {
      room = room ? room * 2 : 32;
      auto* grown = static_cast<Entry**>(realloc(found, room * sizeof(Entry*)));
      if (grown == nullptr && (failed = true)) break;
      found = grown;
    }
    auto* copy = static_cast<Entry*>(malloc(e->d_reclen));
    if (copy == nullptr && (failed = true)) break;
    memcpy(static_cast<void*>(copy), e, e->d_reclen);
    found[n++] = copy;
  }
  larder_closedir(dir);
  if (failed) {
    while (n > 0)
      free(found[--n]);
    free(found);
    return fail(ENOMEM);
  }
  if (compare != nullptr && n > 1)
    qsort(found, n, sizeof(Entry*), reinterpret_cast<int (*)(const void*, const void*)>(compare));
  if (found == nullptr) found = static_cast<Entry**>(malloc(sizeof(Entry*)));
  *list = found;
  return static_cast<int>(n);
}

// A real folder with mount points in it: libc's scandir would not list them.
bool above_mounts(int dirfd, const char* path) {
  struct stat st;
  return current_state() != nullptr && path != nullptr && sys::fstatat(dirfd, path, &st, 0) == 0 &&
         ancestor_entry(st) != kNoEntry;
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
      dirfd, path, true, [&](Found& f) { return scan(open_stream(f, -1), list, filter, compare); },
      [&](int at, const char* p) {
        return above_mounts(at, p) ? scan(opendir_at(at, p), list, filter, compare) : native(at, p);
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

// ---- getdents64 -----------------------------------------------------------------------------------------------------

namespace {

long raw_getdents(int fd, void* buffer, size_t size) {
  return libc_result(sys::call(SYS_getdents64, fd, sys::arg(buffer), static_cast<long>(size)));
}

// Where we are is kept where the kernel keeps it: in the offset of the mirror directory's descriptor.
long list_descriptor(const Identity& id, int fd, void* buffer, size_t size) {
  char path[PATH_MAX];
  Scratch<Found> f;
  const long at = sys::lseek(fd, 0, SEEK_CUR);
  if (at < 0) return fail(static_cast<int>(-at));  // O_PATH: EBADF
  long n = directory_path(id, path);
  if (n < 0 || !f) return fail(n < 0 ? static_cast<int>(-n) : ENOMEM);
  if (!route_missing(AT_FDCWD, path, true, f.get())) return fail(ENOENT);
  auto* s = reinterpret_cast<Stream*>(open_stream(*f.get(), -1));
  if (s == nullptr) return -1;
  s->pos = static_cast<uint64_t>(at);
  size_t filled = 0;
  uint64_t done = s->pos;
  bool more = false;
  while ((more = read_entry(s, &s->entry)) && filled + s->entry.d_reclen <= size) {
    memcpy(static_cast<char*>(buffer) + filled, &s->entry, s->entry.d_reclen);
    filled += s->entry.d_reclen;
    done = s->pos;
  }
  larder_closedir(reinterpret_cast<DIR*>(s));
  sys::lseek(fd, static_cast<long>(done), SEEK_SET);
  return filled == 0 && more ? fail(EINVAL) : static_cast<long>(filled);
}

}  // namespace

ssize_t larder_getdents64(int fd, void* buffer, size_t size) {
  struct stat st;
  if (directory_hint(fd) && current_state() != nullptr && sys::fstat(fd, &st) == 0) {
    Identity id = identify(st);
    if (id.kind == Kind::kDirectory || id.kind == Kind::kAbove) return list_descriptor(id, fd, buffer, size);
  }
  return next.getdents64 ? next.getdents64(fd, buffer, size) : raw_getdents(fd, buffer, size);
}

#define GETDIRENTRIES(name, offset)                                                                  \
  ssize_t larder_##name(int fd, char* buffer, size_t size, offset* base) {                           \
    resolve_next();                                                                                  \
    if (!directory_hint(fd) || current_state() == nullptr) return next.name(fd, buffer, size, base); \
    long at = sys::lseek(fd, 0, SEEK_CUR);                                                           \
    if (at < 0) return fail(static_cast<int>(-at));                                                  \
    ssize_t n = larder_getdents64(fd, buffer, size);                                                 \
    if (n >= 0) *base = at;                                                                          \
    return n;                                                                                        \
  }
GETDIRENTRIES(getdirentries, off_t)
GETDIRENTRIES(getdirentries64, off64_t)
