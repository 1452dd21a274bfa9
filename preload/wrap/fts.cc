// fts(3) over trees with a dataset in them, because glibc's opens directories internally. It never changes the current
// directory: fts_accpath is the whole path, as with FTS_NOCHDIR. Other walks are glibc's.
#include <errno.h>
#include <fts.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "preload/base/next.h"
#include "preload/base/sys.h"
#include "preload/wrap/directory_stream.h"

namespace larder {
namespace {

constexpr int kOurs = 0x4000'0000;   // in fts_options, where glibc uses the low ten bits
constexpr int kInstructionNone = 3;  // FTS_NOINSTR

bool is_ours(const FTS* fts) {
  return fts != nullptr && (fts->fts_options & kOurs) != 0;
}

// An entry with its name, its path and its struct stat behind it in one allocation.
FTSENT* new_entry(const char* dir, size_t dir_len, const char* name, short level, FTSENT* parent) {
  size_t n = strlen(name);
  bool slash = dir_len > 0 && dir[dir_len - 1] != '/';
  size_t path_len = dir_len + (slash ? 1 : 0) + n;
  size_t name_at = offsetof(FTSENT, fts_name);
  size_t stat_at = (name_at + n + 1 + alignof(struct stat)) & ~(alignof(struct stat) - 1);
  auto* e = static_cast<FTSENT*>(calloc(1, stat_at + sizeof(struct stat) + path_len + 1));
  if (e == nullptr) return nullptr;
  auto* base = reinterpret_cast<char*>(e);
  memcpy(base + name_at, name, n + 1);
  e->fts_statp = reinterpret_cast<struct stat*>(base + stat_at);
  char* path = base + stat_at + sizeof(struct stat);
  memcpy(path, dir, dir_len);
  if (slash) path[dir_len] = '/';
  memcpy(path + path_len - n, name, n + 1);
  e->fts_path = e->fts_accpath = path;
  e->fts_pathlen = static_cast<unsigned short>(path_len);
  e->fts_namelen = static_cast<unsigned short>(n);
  e->fts_level = level;
  e->fts_parent = parent;
  e->fts_instr = kInstructionNone;
  return e;
}

void free_list(FTSENT* e) {
  while (e != nullptr) {
    FTSENT* after = e->fts_link;
    free(e);
    e = after;
  }
}

unsigned short classify(FTSENT* e, bool follow) {
  struct stat* st = e->fts_statp;
  int r = follow ? larder_stat(e->fts_path, st) : larder_lstat(e->fts_path, st);
  if (r != 0 && follow && larder_lstat(e->fts_path, st) == 0) return errno = 0, FTS_SLNONE;
  if (r != 0) {
    e->fts_errno = errno;
    memset(st, 0, sizeof(*st));
    return FTS_NS;
  }
  e->fts_ino = st->st_ino;
  e->fts_dev = st->st_dev;
  e->fts_nlink = st->st_nlink;
  if (S_ISLNK(st->st_mode)) return FTS_SL;
  if (S_ISREG(st->st_mode)) return FTS_F;
  if (!S_ISDIR(st->st_mode)) return FTS_DEFAULT;
  if (strcmp(e->fts_name, ".") == 0 || strcmp(e->fts_name, "..") == 0)
    return e->fts_level > FTS_ROOTLEVEL ? FTS_DOT : FTS_D;
  for (FTSENT* up = e->fts_parent; up != nullptr && up->fts_level >= FTS_ROOTLEVEL; up = up->fts_parent) {
    if (up->fts_ino == e->fts_ino && up->fts_dev == e->fts_dev) return e->fts_cycle = up, FTS_DC;
  }
  return FTS_D;
}

FTSENT* sorted(FTS* fts, FTSENT* head, size_t n) {
  if (fts->fts_compar == nullptr || n < 2) return head;
  auto** all = static_cast<FTSENT**>(malloc(n * sizeof(FTSENT*)));
  if (all == nullptr) return head;
  size_t i = 0;
  for (FTSENT* e = head; e != nullptr; e = e->fts_link)
    all[i++] = e;
  // As glibc's: the caller's function takes pointers to the elements.
  qsort(all, n, sizeof(FTSENT*), reinterpret_cast<int (*)(const void*, const void*)>(fts->fts_compar));
  for (i = 0; i + 1 < n; ++i)
    all[i]->fts_link = all[i + 1];
  all[n - 1]->fts_link = nullptr;
  head = all[0];
  free(all);
  return head;
}

// The children of a folder as a list. Null and fts_errno on failure, null alone if there are none.
FTSENT* list_children(FTS* fts, FTSENT* dir, bool names_only) {
  DIR* d = larder_opendir(dir->fts_path);
  if (d == nullptr) {
    dir->fts_errno = errno;
    return nullptr;
  }
  FTSENT* head = nullptr;
  FTSENT** tail = &head;
  size_t n = 0;
  while (struct dirent* e = larder_readdir(d)) {
    bool dot = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
    if (dot && !(fts->fts_options & FTS_SEEDOT)) continue;
    FTSENT* entry = new_entry(dir->fts_path, dir->fts_pathlen, e->d_name, static_cast<short>(dir->fts_level + 1), dir);
    if (entry == nullptr) {
      dir->fts_errno = ENOMEM;
      break;
    }
    bool known_file =
        (fts->fts_options & FTS_NOSTAT) && e->d_type != DT_DIR && e->d_type != DT_UNKNOWN && e->d_type != DT_LNK;
    entry->fts_info = names_only || known_file ? FTS_NSOK : classify(entry, (fts->fts_options & FTS_LOGICAL) != 0);
    *tail = entry;
    tail = &entry->fts_link;
    ++n;
  }
  larder_closedir(d);
  return sorted(fts, head, n);
}

FTS* open_ours(char* const* paths, int options, int (*compare)(const FTSENT**, const FTSENT**)) {
  auto* fts = static_cast<FTS*>(calloc(1, sizeof(FTS)));
  FTSENT* above = new_entry("", 0, "", FTS_ROOTPARENTLEVEL, nullptr);
  if (fts == nullptr || above == nullptr) {
    free(fts);
    free(above);
    return nullptr;
  }
  fts->fts_options = options | kOurs | FTS_NOCHDIR;
  fts->fts_compar = reinterpret_cast<decltype(fts->fts_compar)>(compare);
  FTSENT* head = nullptr;
  FTSENT** tail = &head;
  size_t n = 0;
  for (; *paths != nullptr; ++paths, ++n) {
    FTSENT* e = new_entry("", 0, *paths, FTS_ROOTLEVEL, above);
    if (e == nullptr) break;
    e->fts_info = classify(e, (options & (FTS_LOGICAL | FTS_COMFOLLOW)) != 0);
    *tail = e;
    tail = &e->fts_link;
  }
  head = sorted(fts, head, n);
  above->fts_link = head;  // what is read first
  above->fts_info = 0;
  fts->fts_cur = above;
  fts->fts_child = nullptr;
  return fts;
}

// Leaves `e`: its next sibling, or its parent for the second time, or null at the very end.
FTSENT* leave(FTS* fts, FTSENT* e) {
  FTSENT* next_one = e->fts_link;
  FTSENT* parent = e->fts_parent;
  free(e);
  if (next_one != nullptr) return fts->fts_cur = next_one;
  fts->fts_cur = parent;
  if (parent->fts_level == FTS_ROOTPARENTLEVEL) {
    parent->fts_link = nullptr;
    errno = 0;
    return nullptr;
  }
  parent->fts_info = parent->fts_errno != 0 ? FTS_ERR : FTS_DP;
  return parent;
}

// Goes into a folder that was reported before its children: its first child, or itself again.
FTSENT* descend(FTS* fts, FTSENT* dir) {
  bool other_device = (fts->fts_options & FTS_XDEV) && dir->fts_level > FTS_ROOTLEVEL && dir->fts_dev != fts->fts_dev;
  if (dir->fts_instr == FTS_SKIP || other_device) {
    dir->fts_instr = kInstructionNone;
    free_list(fts->fts_child);
    fts->fts_child = nullptr;
    dir->fts_info = FTS_DP;
    return dir;
  }
  if (dir->fts_level == FTS_ROOTLEVEL) fts->fts_dev = dir->fts_dev;
  if (fts->fts_child != nullptr && fts->fts_child->fts_info == FTS_NSOK && !(fts->fts_options & FTS_NOSTAT)) {
    free_list(fts->fts_child);  // fts_children(FTS_NAMEONLY) made it
    fts->fts_child = nullptr;
  }
  FTSENT* first = fts->fts_child != nullptr ? fts->fts_child : list_children(fts, dir, false);
  fts->fts_child = nullptr;
  if (first != nullptr) return fts->fts_cur = first;
  dir->fts_info = dir->fts_errno == 0 ? FTS_DP : dir->fts_errno == EACCES ? FTS_DNR : FTS_ERR;
  return dir;
}

// Its name without the folders that the caller wrote before it, as glibc gives it once the walk has reached it.
void shorten_root_name(FTSENT* root) {
  const char* slash = strrchr(root->fts_name, '/');
  if (slash == nullptr || (slash == root->fts_name && slash[1] == 0)) return;
  size_t n = strlen(slash + 1);
  memmove(root->fts_name, slash + 1, n + 1);
  root->fts_namelen = static_cast<unsigned short>(n);
}

// Applies fts_set() to an entry before it is reported. FTS_SKIP on a child that was not reported yet skips it.
FTSENT* report(FTS* fts, FTSENT* e) {
  while (e != nullptr && e->fts_instr == FTS_SKIP && e->fts_info != FTS_DP)
    e = leave(fts, e);
  if (e != nullptr && e->fts_level == FTS_ROOTLEVEL) shorten_root_name(e);
  if (e != nullptr && e->fts_instr == FTS_FOLLOW) {
    e->fts_info = classify(e, true);
    e->fts_instr = kInstructionNone;
  }
  return e;
}

FTSENT* read_ours(FTS* fts) {
  FTSENT* e = fts->fts_cur;
  if (e == nullptr || (fts->fts_options & FTS_STOP)) return nullptr;
  if (e->fts_level == FTS_ROOTPARENTLEVEL) {
    if (e->fts_link == nullptr) return errno = 0, nullptr;
    fts->fts_cur = e->fts_link;
    return report(fts, fts->fts_cur);
  }
  if (e->fts_instr == FTS_AGAIN) {
    e->fts_info = classify(e, false);
    e->fts_instr = kInstructionNone;
    return e;
  }
  if (e->fts_instr == FTS_FOLLOW && (e->fts_info == FTS_SL || e->fts_info == FTS_SLNONE)) return report(fts, e);
  return report(fts, e->fts_info == FTS_D ? descend(fts, e) : leave(fts, e));
}

FTSENT* children_ours(FTS* fts, int options) {
  FTSENT* e = fts->fts_cur;
  if (options != 0 && options != FTS_NAMEONLY) return errno = EINVAL, nullptr;
  errno = 0;
  if (e->fts_level == FTS_ROOTPARENTLEVEL) return e->fts_link;
  if (e->fts_info != FTS_D) return nullptr;
  free_list(fts->fts_child);
  fts->fts_child = list_children(fts, e, options == FTS_NAMEONLY);
  if (fts->fts_child == nullptr) errno = e->fts_errno;
  return fts->fts_child;
}

int close_ours(FTS* fts) {
  free_list(fts->fts_child);
  FTSENT* e = fts->fts_cur;
  while (e != nullptr) {
    FTSENT* parent = e->fts_parent;
    free_list(e->fts_level == FTS_ROOTPARENTLEVEL && fts->fts_cur != e ? (e->fts_link = nullptr, e) : e);
    e = parent;
  }
  free(fts);
  return 0;
}

// True if a walk from here meets a dataset.
bool meets_ours(const char* path) {
  struct stat st, real;
  if (path[0] != '/' && cwd_is_ours()) return true;
  if (larder_stat(path, &st) != 0) return false;
  if (sys::fstatat(AT_FDCWD, path, &real, 0) != 0 || real.st_dev != st.st_dev || real.st_ino != st.st_ino) return true;
  return S_ISDIR(real.st_mode) && ancestor_entry(real) != kNoEntry;
}

template <typename Native>
FTS* open_wrapper(char* const* paths, int options, int (*compare)(const FTSENT**, const FTSENT**), Native native) {
  resolve_next();
  if (current_state() != nullptr && paths != nullptr && (options & ~(FTS_OPTIONMASK)) == 0) {
    for (char* const* p = paths; *p != nullptr; ++p) {
      if (meets_ours(*p)) return open_ours(paths, options, compare);
    }
  }
  return native();
}

}  // namespace
}  // namespace larder

using namespace larder;

// FTS64 and FTSENT64 have the layout of FTS and FTSENT where off_t has 64 bits.
static_assert(sizeof(FTS) == sizeof(FTS64) && sizeof(FTSENT) == sizeof(FTSENT64) &&
              offsetof(FTSENT, fts_statp) == offsetof(FTSENT64, fts_statp));

FTS* larder_fts_open(char* const* paths, int options, int (*compare)(const FTSENT**, const FTSENT**)) {
  return open_wrapper(paths, options, compare, [&] { return next.fts_open(paths, options, compare); });
}
FTSENT* larder_fts_read(FTS* fts) {
  return is_ours(fts) ? read_ours(fts) : (resolve_next(), next.fts_read(fts));
}
FTSENT* larder_fts_children(FTS* fts, int options) {
  return is_ours(fts) ? children_ours(fts, options) : (resolve_next(), next.fts_children(fts, options));
}
int larder_fts_set(FTS* fts, FTSENT* e, int instruction) {
  if (!is_ours(fts)) return resolve_next(), next.fts_set(fts, e, instruction);
  if (instruction != 0 && instruction != FTS_AGAIN && instruction != FTS_FOLLOW && instruction != FTS_SKIP)
    return fail(EINVAL);
  e->fts_instr = static_cast<unsigned short>(instruction == 0 ? kInstructionNone : instruction);
  return 0;
}
int larder_fts_close(FTS* fts) {
  return is_ours(fts) ? close_ours(fts) : (resolve_next(), next.fts_close(fts));
}

FTS64* larder_fts64_open(char* const* paths, int options, int (*compare)(const FTSENT64**, const FTSENT64**)) {
  auto plain = reinterpret_cast<int (*)(const FTSENT**, const FTSENT**)>(compare);
  return reinterpret_cast<FTS64*>(open_wrapper(
      paths, options, plain, [&] { return reinterpret_cast<FTS*>(next.fts64_open(paths, options, compare)); }));
}
FTSENT64* larder_fts64_read(FTS64* fts) {
  auto* plain = reinterpret_cast<FTS*>(fts);
  return is_ours(plain) ? reinterpret_cast<FTSENT64*>(read_ours(plain)) : (resolve_next(), next.fts64_read(fts));
}
FTSENT64* larder_fts64_children(FTS64* fts, int options) {
  auto* plain = reinterpret_cast<FTS*>(fts);
  return is_ours(plain) ? reinterpret_cast<FTSENT64*>(children_ours(plain, options))
                        : (resolve_next(), next.fts64_children(fts, options));
}
int larder_fts64_set(FTS64* fts, FTSENT64* e, int instruction) {
  return larder_fts_set(reinterpret_cast<FTS*>(fts), reinterpret_cast<FTSENT*>(e), instruction);
}
int larder_fts64_close(FTS64* fts) {
  return larder_fts_close(reinterpret_cast<FTS*>(fts));
}
