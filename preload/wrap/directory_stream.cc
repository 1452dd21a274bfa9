#include "preload/wrap/directory_stream.h"

#include <errno.h>
#include <string.h>

#include "preload/base/next.h"
#include "preload/base/sys.h"
#include "preload/wrap/open.h"

namespace larder {
namespace {

constexpr size_t kSlotBytes = 512;
constexpr uint32_t kSlots = 4096;
static_assert(sizeof(DirectoryStream) <= kSlotBytes);
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

DirectoryStream* take_stream() {
  char* a = get_arena();
  for (uint32_t w = 0; a != nullptr && w < kSlots / 64; ++w) {
    uint64_t bits = used[w].load(std::memory_order_relaxed);
    while (~bits != 0) {
      int b = __builtin_ctzll(~bits);
      if (!used[w].compare_exchange_weak(bits, bits | 1ULL << b, std::memory_order_acq_rel)) continue;
      auto* s = reinterpret_cast<DirectoryStream*>(a + (w * 64 + static_cast<uint32_t>(b)) * kSlotBytes);
      memset(static_cast<void*>(s), 0, sizeof(DirectoryStream));
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

void give_back(DirectoryStream* s) {
  let_go(s->view);
  let_go(s->ns);
  auto slot = static_cast<uint32_t>((reinterpret_cast<char*>(s) - arena.load()) / static_cast<long>(kSlotBytes));
  used[slot / 64].fetch_and(~(1ULL << (slot % 64)), std::memory_order_release);
}

// Holds the views of `f`, if they still are the process's. False: look up again.
bool hold_views(const Lookup& f) {
  hold(f.view);
  if (f.ns != f.view) hold(f.ns);
  State* s = current_state();
  if (s != nullptr && s->generation == f.generation) return true;
  let_go(f.view);
  if (f.ns != f.view) let_go(f.ns);
  return false;
}

void add_mount_points(DirectoryStream* s, View* ns, uint32_t entry) {
  if (ns == nullptr || entry == kNoEntry) return;
  const CatalogEntry& e = ns->catalog.entries[entry];
  if (e.is_file() || e.dir.child_count == 0) return;
  s->ns_first = e.dir.first_child;
  s->ns_count = e.dir.child_count < 64 ? e.dir.child_count : 64;
}

void fill_stream(DirectoryStream* s, const Lookup& f, int fd) {
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
  s->ns_pos = 2 + uint64_t{s->count};
  if (f.kind == Kind::kDirectory) add_mount_points(s, s->ns, f.above);
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
int mount_point_named(const DirectoryStream* s, const char* name, size_t len) {
  for (uint32_t i = 0; i < s->ns_count; ++i) {
    const CatalogEntry& e = s->ns->catalog.entries[s->ns_first + i];
    if (e.name_len == len && memcmp(s->ns->catalog.name(e), name, len) == 0) return static_cast<int>(i);
  }
  return -1;
}

bool next_native(DirectoryStream* s, struct dirent64* out) {
  struct dirent64* e = next.readdir64(s->native);
  if (e == nullptr) return false;
  int m = mount_point_named(s, e->d_name, strlen(e->d_name));
  if (m >= 0) s->native_seen |= 1ULL << m;
  set_entry(out, e->d_ino, e->d_type, e->d_name, strlen(e->d_name), static_cast<uint64_t>(e->d_off));
  return true;
}

bool next_child(DirectoryStream* s, struct dirent64* out) {
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

}  // namespace

DirectoryStream* our_stream(DIR* dir) {
  char* a = arena.load(std::memory_order_relaxed);
  auto* p = reinterpret_cast<char*>(dir);
  return a != nullptr && p >= a && p < a + kSlotBytes * kSlots ? reinterpret_cast<DirectoryStream*>(p) : nullptr;
}

DIR* open_directory_stream(Found& f, int fd) {
  if (f.kind == Kind::kMissing) return errno = f.error, nullptr;
  if (f.kind == Kind::kFile) return errno = ENOTDIR, nullptr;
  DirectoryStream* s = take_stream();
  if (s == nullptr) return nullptr;
  while (!hold_views(f)) {
    if (!route(AT_FDCWD, f.path, &f) || !f.is_dir()) {
      give_back(s);
      return errno = ENOENT, nullptr;
    }
  }
  fill_stream(s, f, fd);
  count(&StatSlot::lists);
  return reinterpret_cast<DIR*>(s);
}

namespace {

// The stream of what covers a real folder, or null.
DIR* open_covering(const struct stat& st) {
  Scratch<Found> f;
  return f && route_covered(st, f.get()) ? open_directory_stream(*f.get(), -1) : nullptr;
}

}  // namespace

DIR* with_mount_points(DIR* dir) {
  if (dir == nullptr) return nullptr;
  struct stat st;
  Session session;
  if (!enter(&session) || session.state->ancestor_count == 0 || sys::fstat(next.dirfd(dir), &st) != 0) return dir;
  if (identify(st).lazy) return next.closedir(dir), errno = ENOTDIR, nullptr;  // by way of /proc/self/fd
  if (DIR* covering = open_covering(st)) return next.closedir(dir), covering;
  uint32_t entry = ancestor_entry(st);
  if (entry == kNoEntry) return dir;
  set_directory_hint(next.dirfd(dir), true);
  DirectoryStream* s = take_stream();
  if (s == nullptr) return dir;
  View* ns = session.state->ns;
  hold(ns);
  if (current_state() != session.state || !left_intact(session)) {
    let_go(ns);
    give_back(s);
    return dir;
  }
  s->native = dir;
  s->ns_pos = kFirstMountPoint;
  s->ns = ns;
  add_mount_points(s, ns, entry);
  return reinterpret_cast<DIR*>(s);
}

int close_stream(DirectoryStream* s) {
  DIR* native = s->native;
  const int fd = s->fd;
  give_back(s);
  if (native != nullptr) return next.closedir(native);
  const int r = fd >= 0 ? sys::close(fd) : 0;
  return r < 0 ? fail(-r) : 0;
}

bool read_entry(DirectoryStream* s, struct dirent64* out) {
  if (s->pos < s->ns_pos) {
    int before = errno;
    if (s->native != nullptr) {
      errno = 0;
      if (next_native(s, out)) return errno = before, true;
      if (errno != 0) return false;
      errno = before;
    } else if (next_child(s, out)) {
      return true;
    }
    s->pos = s->ns_pos;
  }
  while (s->pos - s->ns_pos < s->ns_count) {
    uint32_t i = static_cast<uint32_t>(s->pos++ - s->ns_pos);
    if (s->native_seen >> i & 1) continue;
    set_from(out, s->ns->catalog, s->ns_first + i, s->pos);
    return true;
  }
  return false;
}

void seek_stream(DirectoryStream* s, uint64_t pos) {
  s->pos = pos;
  if (s->native == nullptr || pos >= s->ns_pos) return;
  if (pos != 0) return next.seekdir(s->native, static_cast<long>(pos));
  s->native_seen = 0;
  next.rewinddir(s->native);
}

long tell_stream(const DirectoryStream* s) {
  if (s->native != nullptr && s->pos < s->ns_pos) return next.telldir(s->native);
  return static_cast<long>(s->pos);
}

int stream_fd(DirectoryStream* s) {
  if (s->native != nullptr) return next.dirfd(s->native);
  if (s->fd >= 0) return s->fd;
  char path[PATH_MAX];
  long n = directory_path({s->kind, s->inode, s->dataset_id}, path);
  if (n < 0) return fail(static_cast<int>(-n));
  return s->fd = open_any(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

uint32_t ancestor_entry(const struct stat& st) {
  Session session;
  if (!enter(&session)) return kNoEntry;
  int i = find_ancestor(session.state, st);
  return i >= 0 ? session.state->ancestors[i].entry : kNoEntry;
}

}  // namespace larder
