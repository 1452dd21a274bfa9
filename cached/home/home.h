// Where the cache lies: a folder of a file system (today /dev/shm), or memory of the daemon's own (own_home.h).
//
// A home is two descriptors of one directory, and nothing in the daemon needs more: fd() is writable, and view() is
// what programs get. In an own home, or in a folder that is given a second time from a read-only mount, nothing can be
// changed through view(), not by root either.
//
// Threads: any, once it is made. Errors are one line with the remedy.
#pragma once
#include <cstdint>
#include <string>

#include "cached/base/fd.h"
#include "cached/home/descriptor_store.h"

namespace larder {

enum class HomeKind { kFolder, kOwn };

class Home {
 public:
  // A folder, made if there is none, with exactly this mode: 0755, or 0700 if it is one user's alone. EACCES: it is
  // another user's, or others may write there.
  static Result<Home> folder(const std::string& path, mode_t mode);
  // The same; `read_only` is the path of the same folder in a read-only mount. EINVAL: it is not.
  static Result<Home> folder(const std::string& path, mode_t mode, const std::string& read_only);
  // Memory of at most so many bytes and inodes (own_home.h). EPERM, ENOSYS, …: the kernel refuses.
  static Result<Home> own(uint64_t bytes, uint64_t inodes);
  // The own home of a former daemon. ENOENT: none was kept; EBADMSG: what was kept is none.
  static Result<Home> kept(StoredDescriptors& stored);

  // Has the descriptors of an own home kept over this daemon's death.
  Status keep() const;
  // True if a daemon before this one made the home, or the folder was there.
  bool was_there() const { return was_there_; }

  HomeKind kind() const { return kind_; }
  int fd() const { return root_.get(); }
  const Fd& view() const { return view_; }  // O_PATH
  // Nobody can change anything through view().
  bool read_only() const { return read_only_; }
  // It takes memory, not disk.
  bool in_memory() const { return in_memory_; }
  // As read_only(), but whoever may make user namespaces and knows how can undo it.
  bool unlocked() const { return unlocked_; }
  const std::string& path() const { return path_; }  // of a folder; else empty
  // For messages: the path, or "memory of its own".
  std::string name() const;
  // Why it is this home and no other: one line, for `status` and `doctor`.
  const std::string& reason() const { return reason_; }
  void set_reason(std::string why) { reason_ = std::move(why); }

 private:
  Home() = default;
  Status check_owner(mode_t mode) const;
  Status add_view(const std::string& path);
  static Result<Home> of_views(Fd writable, const Fd& readable);

  HomeKind kind_ = HomeKind::kFolder;
  std::string path_, reason_;
  Fd root_, view_;
  bool was_there_ = false, read_only_ = false, in_memory_ = true, unlocked_ = false;
};

}  // namespace larder
