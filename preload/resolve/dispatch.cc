#include "preload/resolve/dispatch.h"

#include <string.h>

#include "preload/resolve/fd_paths.h"
#include "preload/resolve/symlink_walk.h"

namespace larder {

namespace {

// The kernel finds "." and ".." in the handle of a lazy file; every other name is not there, which leads to
// dispatch_missing().
bool leads_out_of_file(int dirfd, const char* path) {
  if (path[0] != '.') return false;
  const char after = path[1] == '.' ? path[2] : path[1];
  return (after == 0 || after == '/') && identify_fd(dirfd).lazy;
}

}  // namespace

bool maybe_ours_slow(int dirfd, const char* path) {
  State* s = current_state();
  if (s == nullptr || path == nullptr) return false;
  if (path[0] == '/') return under_some_mount(s, path) || has_odd_component(path);
  if (path[0] == 0) return false;
  if (dirfd != AT_FDCWD) return directory_hint(dirfd) || leads_out_of_file(dirfd, path);
  if (process.cwd.load(std::memory_order_relaxed) != static_cast<int>(CwdClass::kOutside)) return true;
  return (path[0] == '.' && path[1] == '.') || has_odd_component(path);
}

namespace {

// ---- text -----------------------------------------------------------------------------------------------------------

// Appends a relative path to an absolute normalised one of length n ("" is the root), dropping "." and empty
// components. Returns the new length, -1 if there is a "..", -2 if it does not fit. *slash: the path ends in '/' or
// '/.'.
long append_plain(char* out, size_t n, size_t cap, const char* path, bool* slash) {
  *slash = false;
  for (const char* p = path; *p != 0;) {
    const char* end = p;
    while (*end != 0 && *end != '/')
      ++end;
    size_t len = static_cast<size_t>(end - p);
    if (len == 2 && p[0] == '.' && p[1] == '.') return -1;
    bool skip = len == 0 || (len == 1 && p[0] == '.');
    if (!skip) {
      if (n + 1 + len >= cap) return -2;
      out[n++] = '/';
      memcpy(out + n, p, len);
      n += len;
    }
    *slash = skip || *end == '/';
    p = *end == '/' ? end + 1 : end;
  }
  out[n] = 0;
  return static_cast<long>(n);
}

// Why a relative path is not in a catalog: ENOTDIR if one of the folders on its way is a file, ENAMETOOLONG, else
// ENOENT. *creatable: all the folders on its way exist.
int missing_error(const Catalog& c, const char* rel, size_t len, bool* creatable) {
  *creatable = false;
  for (size_t i = 0, start = 0; i <= len; ++i) {
    if (i < len && rel[i] != '/') continue;
    if (i - start > NAME_MAX) return *creatable = i == len, ENAMETOOLONG;
    start = i + 1;
    if (i == len) break;
    uint32_t e = c.find(rel, i);
    if (e == kNoEntry) return ENOENT;
    if (c.entries[e].is_file()) return ENOTDIR;
  }
  *creatable = true;
  return ENOENT;
}

// ---- lookups --------------------------------------------------------------------------------------------------------

void fill_common(const State* s, Lookup* f) {
  f->generation = s->generation;
  f->unserved = s->unserved;
  f->wait_ms = s->wait_ms;
  f->uid = s->uid;
  f->gid = s->gid;
  f->ns = s->ns;
  f->above = kNoEntry;
  if (s->ns != nullptr && f->path_len > 1)
    f->above = s->ns->catalog.find(f->path + 1, f->path_len - 1);
  else if (s->ns != nullptr)
    f->above = 0;
}

bool missing(Lookup* f, int error) {
  f->kind = Kind::kMissing;
  f->error = error;
  return true;
}

// A folder above mount points (or a mount point inside another dataset that its catalog does not have).
bool found_above(const State* s, Lookup* f) {
  if (f->above == kNoEntry) return false;
  f->kind = Kind::kAbove;
  f->entry = s->ns->catalog.entries[f->above];
  f->index = f->above;
  f->view = s->ns;
  f->dataset_id = 0;
  f->dev = dataset_dev(0);
  f->rel_off = 1;
  return true;
}

bool found_in_mount(const State* s, const StateMount& m, bool slash, Lookup* f) {
  f->rel_off = f->path_len > m.path_len ? m.path_len + 1 : f->path_len;
  static_cast<MountFacts&>(*f) = m;
  f->view = m.view;
  if (s->unserved) return missing(f, EIO);
  if (m.view == nullptr) return missing(f, EACCES);
  const Catalog& c = m.view->catalog;
  uint32_t i = c.find(f->rel(), f->rel_len());
  if (i == kNoEntry) {
    if (found_above(s, f)) return true;
    return missing(f, missing_error(c, f->rel(), f->rel_len(), &f->creatable));
  }
  f->index = i;
  f->entry = c.entries[i];
  if (f->entry.is_dir()) {
    f->kind = Kind::kDirectory;
    return true;
  }
  f->creatable = slash;
  if (slash) return missing(f, ENOTDIR);
  f->kind = Kind::kFile;
  uint32_t word = m.view->residency->words[i].load(std::memory_order_acquire);
  f->resident = (word & kStateMask) == kResident;
  f->lazy = (word & kStateMask) == kLazy;
  f->touch = m.view->touch != nullptr ? m.view->touch + i : nullptr;
  return true;
}

// Is this folder above mount points a real one? The kernel has it then.
bool is_on_disk(const State* s, uint32_t above) {
  for (uint32_t i = 0; i < s->ancestor_count; ++i) {
    if (s->ancestors[i].entry == above) return true;
  }
  return false;
}

// Nobody answers, and a folder above a mount of the mounts file is not on the disk.
bool may_be_above(const State* s, Lookup* f) {
  for (uint32_t i = 0; s->unserved && i < s->mount_count; ++i) {
    const StateMount& m = s->mounts[i];
    if (m.path_len <= f->path_len || m.path[f->path_len] != '/' || memcmp(m.path, f->path, f->path_len) != 0) continue;
    f->fallback = m.fallback;
    return missing(f, EIO);
  }
  return false;
}

// f->path is absolute and normalised. `above_too`: a folder above mounts counts as ours (the kernel does not have it).
bool look_up(const State* s, bool slash, bool above_too, Lookup* f) {
  fill_common(s, f);
  if (const StateMount* m = mount_of(s, f->path, f->path_len)) return found_in_mount(s, *m, slash, f);
  return above_too && !is_on_disk(s, f->above) && (found_above(s, f) || may_be_above(s, f));
}

// look_up() on the newest State, until nothing moved while it looked. Waits for larderd if nobody answers.
bool look_up_stable(bool slash, bool above_too, Lookup* f) {
  for (;;) {
    Session session;
    if (!enter(&session)) return false;
    bool ours = look_up(session.state, slash, above_too, f);
    if (!left_intact(session)) continue;
    if (!ours || !f->unserved) return ours;
    if (f->fallback == Fallback::kOrigin) return false;
    if (const int error = await_daemon(f->wait_ms, f->fallback, f->path)) return missing(f, error);
  }
}

// How a path ends: in a name and slashes ("x/"), in "." or ".." (also with slashes), or neither.
enum class Ending { kPlain, kSlash, kDots };
Ending ending_of(const char* path) {
  const size_t len = strlen(path);
  size_t n = len;
  while (n > 0 && path[n - 1] == '/')
    --n;
  size_t start = n;
  while (start > 0 && path[start - 1] != '/')
    --start;
  if (n > start && path[start] == '.' && (n - start == 1 || (n - start == 2 && path[start + 1] == '.')))
    return Ending::kDots;
  return n < len ? Ending::kSlash : Ending::kPlain;
}

// What nothing can be made as: the folder before the dots must be there.
bool settle_ending(const char* path, Lookup* f, bool ours) {
  Ending e = ending_of(path);
  f->slash = e == Ending::kSlash;
  if (e == Ending::kDots) f->creatable = false;
  return ours;
}

bool ends_in_slash(const char* path) {
  size_t n = strlen(path);
  return n > 0 && (path[n - 1] == '/' || (n > 1 && path[n - 1] == '.' && path[n - 2] == '/'));
}

// Not ours: if it began in a directory of ours, or went through one, the kernel must be asked for it by another name.
bool not_ours(int dirfd, const char* path, bool crossed, Found* f) {
  struct stat st;
  f->rebased = crossed;
  if (!crossed && path[0] != '/') {
    int r = dirfd == AT_FDCWD ? sys::fstatat(AT_FDCWD, ".", &st, 0) : sys::fstat(dirfd, &st);
    f->rebased = r == 0 && is_directory(identify(st));
  }
  if (f->rebased && f->path_len == 0) f->path = "/";
  return false;
}

bool route_walked(int dirfd, const char* path, bool follow_last, bool above_too, Found* f) {
  bool crossed = false;
  long n = walk_from(dirfd, path, follow_last, f->buffer, &crossed);
  if (n == -ENOTDIR || n == -EACCES || (n == -ENAMETOOLONG && crossed))
    return missing(f, static_cast<int>(-n));  // below a mount: elsewhere nothing is asked
  if (n < 0) return false;
  f->path = f->buffer;
  f->path_len = static_cast<size_t>(n);
  return settle_ending(path, f, look_up_stable(ends_in_slash(path), above_too, f) || not_ours(dirfd, path, crossed, f));
}

bool below_proc(const char* path) {
  return strncmp(path, "/proc/", 6) == 0;
}

// Puts the absolute form of a path without ".." into f. 0, or -1: needs a walk, or -2: not for us (too long, no base),
// or -ENOTDIR.
int plain_path(int dirfd, const char* path, bool* slash, Found* f) {
  *slash = false;
  if (path[0] == '/' && !has_odd_component(path)) {
    f->path = path;
    f->path_len = strlen(path);
    return f->path_len < PATH_MAX ? 0 : -2;
  }
  if (below_proc(path)) return -1;  // "/proc/self/fd/3/.": of a file?
  long n = 0;
  if (path[0] != '/') {
    n = virtual_base(dirfd, f->buffer);
    if (n == -EXDEV && dirfd == AT_FDCWD && classify_cwd() == CwdClass::kMayReach) n = any_base(dirfd, f->buffer);
    if (n < 0) {
      if (n == -ENOTDIR) return -ENOTDIR;
      if (dirfd != AT_FDCWD) set_directory_hint(dirfd, false);
      return n == -EXDEV && dirfd == AT_FDCWD ? -1 : -2;
    }
  }
  n = append_plain(f->buffer, static_cast<size_t>(n), PATH_MAX, path, slash);
  if (n < 0) return static_cast<int>(n);
  f->path = f->buffer;
  f->path_len = static_cast<size_t>(n);
  return 0;
}

bool has_dotdot(const char* p) {
  for (;;) {
    if (p[0] == '.' && p[1] == '.' && (p[2] == '/' || p[2] == 0)) return true;
    while (*p != 0 && *p != '/')
      ++p;
    if (*p++ == 0) return false;
  }
}

// ---- folders outside ------------------------------------------------------------------------------------------------
// Programs look for files that are not there by the thousand (import paths, include paths), most in a few folders.

class PlainFolder {
 public:
  PlainFolder(std::atomic<uint64_t>* slot, uint64_t key) : slot_(slot), key_(key) {}
  bool known() const { return slot_ != nullptr && slot_->load(std::memory_order_relaxed) == key_; }
  void learn() const {
    if (slot_ != nullptr) slot_->store(key_, std::memory_order_relaxed);
  }

 private:
  std::atomic<uint64_t>* slot_;
  uint64_t key_;
};

constinit std::atomic<uint64_t> plain_folders[64] = {};

// The key holds the folder's text, the generation and the second, so that knowledge ages by itself.
PlainFolder plain_folder(const State* s, const char* path) {
  const char* slash = strrchr(path, '/');
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  uint64_t h = XXH3_64bits_withSeed(path, static_cast<size_t>(slash - path),
                                    s->generation * 0x9e3779b97f4a7c15ULL + static_cast<uint64_t>(now.tv_sec));
  return {&plain_folders[h % 64], h | 1};
}

// The folder of a resolved path is neither in a mount nor above one.
bool leads_nowhere(const State* s, const Lookup& f) {
  size_t n = f.path_len;
  while (n > 0 && f.path[--n] != '/') {
  }
  return n > 0 && mount_of(s, f.path, n) == nullptr &&
         (s->ns == nullptr || s->ns->catalog.find(f.path + 1, n - 1) == kNoEntry);
}

}  // namespace

// ---- the full answers -----------------------------------------------------------------------------------------------

bool route(int dirfd, const char* path, Found* f) {
  if (path == nullptr || path[0] == 0 || strlen(path) >= PATH_MAX)
    return false;  // the kernel looks at the length first
  bool slash;
  int r = plain_path(dirfd, path, &slash, f);
  if (r == -2) return false;
  if (r == -ENOTDIR) return missing(f, ENOTDIR);
  if (r == -1) return (has_dotdot(path) || below_proc(path)) && route_walked(dirfd, path, false, false, f);
  return settle_ending(path, f, look_up_stable(slash, false, f) || not_ours(dirfd, path, false, f));
}

bool may_lead_to_ours(int dirfd, const char* path) {
  if (path == nullptr || path[0] == 0) return false;
  State* s = current_state();
  if (s == nullptr) return attach_late();
  if (s->unserved) {
    attach_late();
    return true;
  }
  if (path[0] != '/' || !plain_folder(s, path).known()) return true;
  char byte;
  return sys::readlinkat(dirfd, path, &byte, 1) >= 0;
}

bool route_missing(int dirfd, const char* path, bool follow_last, Found* f) {
  State* s = current_state();
  if (s == nullptr) return false;
  if (route_walked(dirfd, path, follow_last, true, f)) return true;
  if (path[0] == '/' && f->path == f->buffer && leads_nowhere(s, *f)) plain_folder(s, path).learn();
  return false;
}

bool route_covered(const struct stat& st, Found* f) {
  Session session;
  if (!enter(&session) || !is_covered(session.state, st) || !left_intact(session)) return false;
  long n = ancestor_path(st, f->buffer);
  if (n <= 0) return false;
  f->path = f->buffer;
  f->path_len = static_cast<size_t>(n);
  return look_up_stable(false, false, f);
}

namespace {

// A symlink leads to a folder that a mount covers; the kernel would make the file there.
bool folder_is_covered(int dirfd, const char* path, Found* f) {
  State* s = current_state();
  if (s->covered_count == 0) return false;
  size_t n = strlen(path);
  while (n > 0 && path[n - 1] == '/')
    --n;  // mkdir("link/new/")
  while (n > 0 && path[n - 1] != '/')
    --n;
  if (n < 2 || n > PATH_MAX) return false;
  --n;
  memcpy(f->buffer, path, n);
  f->buffer[n] = 0;
  struct stat st;
  if (sys::fstatat(dirfd, f->buffer, &st, 0) != 0 || !is_covered(s, st)) return false;
  return route_walked(dirfd, path, false, false, f);
}

}  // namespace

bool route_for_write(int dirfd, const char* path, Found* f) {
  if (path == nullptr || path[0] == 0 || current_state() == nullptr) return false;
  const bool maybe = maybe_ours(dirfd, path);
  if (maybe && (route(dirfd, path, f) || f->rebased)) return f->kind != Kind::kNone;
  if (folder_is_covered(dirfd, path, f)) return true;
  if (maybe || path[0] == '/' || dirfd == AT_FDCWD) return false;
  const Identity id = identify_fd(dirfd);
  return (is_directory(id) || id.lazy) && route(dirfd, path, f);
}

}  // namespace larder
