#include "preload/resolve/fd_paths.h"

namespace larder {

constinit std::atomic<uint64_t> directory_hints[1024] = {};

int find_ancestor(const State* s, const struct stat& st) {
  for (uint32_t i = 0; i < s->ancestor_count; ++i) {
    if (s->ancestors[i].ino == st.st_ino && s->ancestors[i].dev == st.st_dev) return static_cast<int>(i);
  }
  return -1;
}

void note_directory(int fd, const struct stat& st) {
  Session session;
  if (!enter(&session) || session.state->ancestor_count == 0) return;
  if (S_ISDIR(st.st_mode) && find_ancestor(session.state, st) >= 0) set_directory_hint(fd, true);
}

void set_directory_hint(int fd, bool on) {
  if (fd < 0 || fd >= 65536) return;
  uint64_t bit = 1ULL << (fd % 64);
  if (on)
    directory_hints[fd / 64].fetch_or(bit, std::memory_order_relaxed);
  else
    directory_hints[fd / 64].fetch_and(~bit, std::memory_order_relaxed);
}

namespace {

bool is_prefix_folder(const char* folder, size_t n, const char* path, size_t len) {
  return n <= len && memcmp(folder, path, n) == 0 && (n == len || path[n] == '/' || n == 0);
}

}  // namespace

long ancestor_path(const struct stat& st, char* out) {
  for (;;) {
    Session session;
    if (!enter(&session)) return -EXDEV;
    int i = find_ancestor(session.state, st);
    long n = -EXDEV;
    if (i >= 0) {
      out[0] = '/';
      n = session.state->ns->catalog.path_of(session.state->ancestors[i].entry, out + 1, PATH_MAX - 2);
      n = n < 0 ? -ENAMETOOLONG : n == 0 ? 0 : n + 1;
    }
    if (!left_intact(session)) continue;
    if (n >= 0) out[n] = 0;
    return n;
  }
}

bool is_covered(const State* s, const struct stat& st) {
  int i = s->covered_count != 0 && S_ISDIR(st.st_mode) ? find_ancestor(s, st) : -1;
  return i >= 0 && s->ns->catalog.entries[s->ancestors[i].entry].type == EntryType::kMount;
}

long virtual_base(int dirfd, char* out) {
  struct stat st;
  int r = dirfd == AT_FDCWD ? sys::fstatat(AT_FDCWD, ".", &st, 0) : sys::fstat(dirfd, &st);
  if (r < 0) return r;
  Identity id = identify(st);
  if (id.kind == Kind::kDirectory || id.kind == Kind::kAbove) return directory_path(id, out);
  if (id.lazy) return -ENOTDIR;
  return ancestor_path(st, out);
}

long any_base(int dirfd, char* out) {
  long n = virtual_base(dirfd, out);
  if (n != -EXDEV) return n;
  if (dirfd == AT_FDCWD) {
    n = sys::getcwd(out, PATH_MAX);
    if (n < 0) return n;
    n -= 1;  // counts the NUL
  } else {
    char link[32];
    sys::fd_path(dirfd, link);
    n = sys::readlinkat(AT_FDCWD, link, out, PATH_MAX - 1);
    if (n < 0) return n;
    out[n] = 0;
  }
  if (out[0] != '/') return -ENOENT;  // "(unreachable)", "pipe:[1]"
  if (n == 1) n = 0;                  // the root is ""
  return n;
}

Identity identify(const struct stat& st) {
  Identity id;
  Session session;
  if (!enter(&session)) return id;
  const State* s = session.state;
  const InodeSlot* slot = s->slot_of(st.st_dev, st.st_ino);
  if (slot == nullptr) return id;
  id.inode = slot->inode;
  id.dataset_id = slot->dataset_id;
  id.lazy = slot->kind == InodeKind::kLazyObject;
  id.kind = slot->kind == InodeKind::kFile || id.lazy ? Kind::kFile
            : slot->kind == InodeKind::kDirectory     ? Kind::kDirectory
                                                      : Kind::kAbove;
  if ((slot->kind == InodeKind::kFile) != S_ISREG(st.st_mode)) return Identity{};
  return id;
}

Identity identify_fd(int fd) {
  struct stat st;
  return current_state() != nullptr && sys::fstat(fd, &st) == 0 ? identify(st) : Identity{};
}

long directory_path(const Identity& id, char* out) {
  for (;;) {
    Session session;
    if (!enter(&session)) return -ENOENT;
    const State* s = session.state;
    long n = -ENOENT;
    if (id.kind == Kind::kAbove && s->ns != nullptr) {
      uint32_t i = s->ns->catalog.find_directory(id.inode);
      out[0] = '/';
      if (i != kNoEntry) n = s->ns->catalog.path_of(i, out + 1, PATH_MAX - 2);
      if (n >= 0) n += n > 0 ? 1 : 0;
    }
    for (uint32_t m = 0; id.kind == Kind::kDirectory && m < s->mount_count && n < 0; ++m) {
      const StateMount& mount = s->mounts[m];
      if (mount.dataset_id != id.dataset_id || mount.view == nullptr) continue;
      uint32_t i = mount.view->catalog.find_directory(id.inode);
      if (i == kNoEntry) continue;
      memcpy(out, mount.path, mount.path_len);
      size_t at = mount.path_len;
      out[at] = '/';
      n = mount.view->catalog.path_of(i, out + at + 1, PATH_MAX - at - 2);
      n = n < 0 ? -ENAMETOOLONG : n == 0 ? static_cast<long>(at) : n + static_cast<long>(at) + 1;
    }
    if (!left_intact(session)) continue;
    if (n >= 0) out[n] = 0;
    return n;
  }
}

// By its inode number: a walk over the catalog, for the rare reader of /proc/self/fd.
long file_path(const Identity& id, char* out) {
  Session session;
  long n;
  do {
    n = -ENOENT;
    if (!enter(&session)) return n;
    for (uint32_t m = 0; m < session.state->mount_count; ++m) {
      const StateMount& mount = session.state->mounts[m];
      if (mount.dataset_id != id.dataset_id || mount.view == nullptr) continue;
      const Catalog& c = mount.view->catalog;
      uint32_t i = 0;
      while (i < c.entry_count && !(c.entries[i].is_file() && c.entries[i].inode() == id.inode))
        ++i;
      if (i == c.entry_count) continue;
      memcpy(out, mount.path, mount.path_len);
      out[mount.path_len] = '/';
      n = c.path_of(i, out + mount.path_len + 1, PATH_MAX - mount.path_len - 2);
      if (n >= 0) n += mount.path_len + 1;
      break;
    }
  } while (!left_intact(session));
  if (n >= 0) out[n] = 0;
  return n;
}

bool cwd_is_ours() {
  struct stat st;
  return sys::fstatat(AT_FDCWD, ".", &st, 0) == 0 && identify(st).kind != Kind::kNone;
}

CwdClass classify_cwd() {
  Session session;
  if (!enter(&session)) return CwdClass::kUnknown;
  CwdClass answer = CwdClass::kOutside;
  struct stat st;
  struct Text {
    char path[PATH_MAX];
  };
  Scratch<Text> here;
  if (!here) return answer;
  if (sys::fstatat(AT_FDCWD, ".", &st, 0) == 0 && identify(st).kind != Kind::kNone) {
    answer = CwdClass::kMayReach;
  } else if (long n = sys::getcwd(here->path, PATH_MAX); n > 0 && here->path[0] == '/') {
    size_t len = n == 2 ? 0 : static_cast<size_t>(n - 1);
    for (uint32_t i = 0; i < session.state->mount_count; ++i) {
      const StateMount& m = session.state->mounts[i];
      if (is_prefix_folder(here->path, len, m.path, m.path_len) ||
          is_prefix_folder(m.path, m.path_len, here->path, len)) {
        answer = CwdClass::kMayReach;
      }
    }
  }
  if (!left_intact(session)) return CwdClass::kUnknown;
  if (own_process()) process.cwd.store(static_cast<int>(answer), std::memory_order_relaxed);
  return answer;
}

}  // namespace larder
