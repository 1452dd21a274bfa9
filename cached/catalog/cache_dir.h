// The cache directory: the files at its top (include/larder/shm.h draws the whole), what a crash left in it. Where it
// lies is the home's concern (cached/home/home.h).
//
// One daemon a directory: an flock on its file "lock" is held for the daemon's life. A directory that is there is taken
// over: the control file stays the same inode, because running programs have it mapped.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "cached/base/fd.h"
#include "cached/home/home.h"
#include "larder/names.h"
#include "larder/result.h"
#include "larder/shm.h"

namespace larder {

struct FsSpace {
  uint64_t total = 0;
  uint64_t free = 0;
  uint64_t free_inodes = 0;
};
FsSpace fs_space(int fd);

// Bytes on disk below a folder; 0 if there is none.
uint64_t disk_usage(const std::string& path);
uint64_t disk_usage(int folder);

class CacheDir {
 public:
  // Fills the home or takes over what is there. EBUSY: another daemon's, names its pid; EOPNOTSUPP: the file system has
  // no O_TMPFILE. What was made for the first time goes again unless keep() is called.
  static Result<std::unique_ptr<CacheDir>> open(Home home);
  ~CacheDir();
  void keep() { keep_ = true; }

  const Home& home() const { return home_; }
  int fd() const { return home_.fd(); }
  int chunks_fd() const { return chunks_.get(); }
  // Of its file systems together: what is left of each, whichever has less.
  FsSpace space() const;
  int tmp_fd() const { return tmp_.get(); }
  int namespace_fd() const { return namespace_.get(); }
  int namespace_mirrors_fd() const { return namespace_mirrors_.get(); }
  const Fd& handle() const { return home_.view(); }  // O_PATH: what programs get
  // Opens for a program: through the home's view, so that nothing can be changed through the descriptor either.
  Result<Fd> open_for_program(const CacheName& path, int flags = 0) const;
  Control* control() const { return static_cast<Control*>(control_.data()); }
  uint64_t used_by_tables() const;  // control, presence, lock

  // True while a program has the presence page mapped.
  bool program_present() const;

  // Names at the top that look like dataset folders (16 hex digits), and those that are nobody's.
  std::vector<uint64_t> dataset_folders() const;
  std::vector<std::string> unknown_names() const;

 private:
  explicit CacheDir(Home home) : home_(std::move(home)) {}
  Status take();
  Status lock();
  Status make_parts();
  Status open_control();
  Status new_control();
  bool control_is_good(int file) const;
  std::pair<uint64_t, uint64_t> devices() const;
  void remove_what_was_made();

  Home home_;
  Fd lock_, tmp_, chunks_, namespace_, namespace_mirrors_, presence_;
  Mapping control_;
  bool keep_ = false;
};

// True if nobody but this process' `fd` has the file open or mapped (the write-lease test of design §5). `fd` must be
// the only descriptor of it in this process, opened O_RDONLY. SIGIO must be ignored.
bool nobody_else_has(int fd);

}  // namespace larder
