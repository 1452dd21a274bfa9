// From what a program says (a path, or a descriptor and a path) to what it means: a file or folder of a dataset, or not
// ours.
//
// Wrappers use dispatch() for paths and identify() for descriptors. A path is ours if, lexically, it lies under a mount
// (which covers whatever the disk has there), or if the kernel does not know it and it leads under a mount through a
// symlink, a descriptor or a folder that only exists above mounts.
#pragma once
#include <errno.h>
#include <limits.h>
#include <string.h>

#include <new>
#include <type_traits>

#include "preload/base/libc_result.h"
#include "preload/base/sys.h"
#include "preload/resolve/path_scan.h"
#include "preload/resolve/state.h"

namespace larder {

enum class Kind {
  kNone = 0,  // not ours
  kFile,
  kDirectory,  // of a dataset
  kAbove,      // a folder above mount points that does not exist on disk
  kMissing,    // ours, and not there: Lookup::error
};

// The text of a path that was looked up.
struct PathText {
  const char* path = nullptr;  // absolute, normalised and terminated; the caller's own or in Found::buffer
  size_t path_len = 0;
  size_t rel_off = 0;    // where the path inside the dataset begins
  bool rebased = false;  // kNone: the path started in a directory of ours and leads out; the kernel must get `path`

  const char* rel() const { return path + rel_off; }
  size_t rel_len() const { return path_len > rel_off ? path_len - rel_off : 0; }
};

// What the State said that knew the path. The views may be another's later, unless they are held (state.h).
struct StateFacts {
  uint64_t generation = 0;
  bool unserved = false;  // nobody answers: it cannot be known what the path means
  uint32_t wait_ms = 0;
  uint32_t uid = 0, gid = 0;
  View* view = nullptr;  // of `entry`
  View* ns = nullptr;
};

// What a path means. Copies, so that nothing in it depends on the State it came from, but for the views and `touch`.
struct Lookup : PathText, StateFacts, MountFacts {
  Kind kind = Kind::kNone;
  int error = 0;           // kMissing: ENOENT, ENOTDIR, EACCES, ENAMETOOLONG, ELOOP
  bool creatable = false;  // kMissing: its folder exists; the last component does not (ENOENT), cannot (ENAMETOOLONG),
                           // or is a file with a slash (ENOTDIR)
  bool resident = false;   // kFile
  bool lazy = false;       // kFile: there is a handle (preload/lazy/lazy_read.h)
  bool slash = false;      // the path ended in a name and a slash
  CatalogEntry entry;      // kFile, kDirectory, kAbove
  uint32_t index = kNoEntry;  // of entry in its catalog
  uint32_t above = kNoEntry;  // entry of the same path in the namespace catalog: mount points to list besides
  uint8_t* touch = nullptr;   // the file's byte, or null

  bool is_mount_point() const { return kind == Kind::kDirectory && rel_len() == 0; }
  bool is_dir() const { return kind == Kind::kDirectory || kind == Kind::kAbove; }
};

// A Lookup with the room that the way to it needs. Large: Scratch<Found> where the stack may be small.
struct Found : Lookup {
  char buffer[PATH_MAX + NAME_MAX + 2];
};

// Room for something large that is needed rarely: wrappers run on signal and coroutine stacks of a few KiB. One static
// place a type; whoever finds it taken (another thread, a handler's own caller, a fork in between) gets a mapping.
template <typename T>
class Scratch {
 public:
  Scratch() {
    void* p = place_;
    if (busy_.exchange(true, std::memory_order_acquire)) {
      p = sys::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    if (p != nullptr) t_ = ::new (p) T;
  }
  ~Scratch() {
    if (static_cast<void*>(t_) == place_)
      busy_.store(false, std::memory_order_release);
    else if (t_ != nullptr)
      sys::munmap(t_, sizeof(T));
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  explicit operator bool() const { return t_ != nullptr; }
  T* get() { return t_; }
  T* operator->() { return t_; }

 private:
  alignas(T) static inline constinit char place_[sizeof(T)] = {};
  static inline constinit std::atomic<bool> busy_{false};
  T* t_ = nullptr;
};

// ---- the quick test -------------------------------------------------------------------------------------------------

// Hints at a descriptor that the kernel opened, if it is a real directory above mount points, or one that a mount
// covers. `st` is of the descriptor.
void note_directory(int fd, const struct stat& st);
// Index in State::ancestors, or -1.
int find_ancestor(const State* s, const struct stat& st);
// Did the kernel's answer come from a directory that a mount covers (reached by a symlink)? Then f is what covers it.
bool route_covered(const struct stat& st, Found* f);

inline bool under_some_mount(const State* s, const char* path) {
  for (uint32_t i = 0; i < s->mount_count; ++i) {
    const StateMount& m = s->mounts[i];
    uint32_t k = 1;
    while (k < m.path_len && path[k] == m.path[k])
      ++k;
    if (k == m.path_len && (path[k] == '/' || path[k] == 0)) return true;
  }
  return false;
}

// Descriptors that were directories of ours, or real ones above mount points, when they were made. Only a hint: for the
// former it saves a failing call for relative paths, for the latter it makes a mount cover what is on disk.
extern std::atomic<uint64_t> directory_hints[1024];
inline bool directory_hint(int fd) {
  return fd >= 0 && fd < 65536 && (directory_hints[fd / 64].load(std::memory_order_relaxed) >> (fd % 64) & 1);
}
void set_directory_hint(int fd, bool on);

// False: the path is not ours unless the kernel does not find it. Nearly all calls end in the first line, after some
// forty instructions in few cache lines: a system call leaves little of ours in the processor's caches.
__attribute__((noinline)) bool maybe_ours_slow(int dirfd, const char* path);
inline bool maybe_ours(int dirfd, const char* path) {
  const State* s = unmoved_state();
  if (__builtin_expect(s != nullptr && path != nullptr && path[0] == '/' && certainly_plain(s->head, path), 1))
    return false;
  return maybe_ours_slow(dirfd, path);
}

// ---- the full answers -----------------------------------------------------------------------------------------------

// Decides lexically. True: ours (also if it is missing).
bool route(int dirfd, const char* path, Found* f);

// The kernel said ENOENT or ENOTDIR. A cheap no: no daemon, or the folder is known to lead nowhere near a mount
// (believed for a second) and the last component is no symlink.
bool may_lead_to_ours(int dirfd, const char* path);

// Follows symlinks and descriptors outside the datasets. True: ours after all.
bool route_missing(int dirfd, const char* path, bool follow_last, Found* f);

// For calls that would change something: never lets the kernel try in a directory of ours first.
bool route_for_write(int dirfd, const char* path, Found* f);

// What a descriptor is.
struct Identity {
  Kind kind = Kind::kNone;
  uint64_t inode = 0;
  uint64_t dataset_id = 0;
  bool lazy = false;  // kFile: a handle (preload/lazy/lazy_read.h), which to the kernel is a directory
};
// From a struct stat that the kernel filled.
Identity identify(const struct stat& st);
// Of a descriptor, with one system call; kNone for a bad one.
Identity identify_fd(int fd);
// The absolute virtual path of a directory of ours, into out (PATH_MAX, terminated): its length, or -errno.
long directory_path(const Identity& id, char* out);
// The same of a file of ours; of several mounts or names, any.
long file_path(const Identity& id, char* out);

// True if the current directory is one of ours.
bool cwd_is_ours();

// Finds out again how the current directory lies to the mounts.
CwdClass classify_cwd();

// ---- the frame of all path wrappers ---------------------------------------------------------------------------------

template <typename R>
inline bool failed(R r) {
  if constexpr (std::is_pointer_v<R>)
    return r == nullptr;
  else
    return r < 0;
}
template <typename R>
inline bool failed_missing(R r) {
  return failed(r) && (errno == ENOENT || errno == ENOTDIR);
}

template <typename Ours, typename Native>
__attribute__((noinline)) auto dispatch_slow(int dirfd, const char* path, Ours ours, Native native) {
  Found f;
  if (route(dirfd, path, &f)) return ours(f);
  return f.rebased ? native(AT_FDCWD, f.path) : native(dirfd, path);
}

template <typename R, typename Ours, typename Native>
__attribute__((noinline)) R dispatch_missing(int dirfd, const char* path, bool follow, R r, Ours ours, Native native) {
  if (!failed_missing(r)) return r;
  int error = errno;
  if (!may_lead_to_ours(dirfd, path)) return errno = error_of_missing(error), r;
  Scratch<Found> f;
  if (f && route_missing(dirfd, path, follow, f.get())) return ours(*f.get());
  if (f && f->rebased) return native(AT_FDCWD, f->path);
  errno = error;
  return r;
}

// ours(Found&) if the path is ours, else native(dirfd, path), which may be another pair for the same thing; both return
// the call's result and set errno as libc does. `follow`: the call follows a symlink in the last component.
template <typename Ours, typename Native>
inline auto dispatch(int dirfd, const char* path, bool follow, Ours ours, Native native) {
  auto r = maybe_ours(dirfd, path) ? dispatch_slow(dirfd, path, ours, native) : native(dirfd, path);
  if (__builtin_expect(failed(r), 0)) return dispatch_missing(dirfd, path, follow, r, ours, native);
  return r;
}

}  // namespace larder
