#include "cached/mirror.h"

#include <sys/stat.h>

#include "cached/files.h"

namespace larder {

static constexpr const char* kText = "this process does not run under liblarder.so, so it cannot see the files of this folder";

static Status complete(int fd) {
  struct stat st;
  if (::fstat(fd, &st) != 0) return os_error("cannot stat a mirror folder");
  if ((st.st_mode & 07777) == 0555) return {};
  if (::symlinkat(kText, fd, kNotPreloaded) != 0 && errno != EEXIST) return os_error("cannot fill a mirror folder");
  if (::fchmod(fd, 0555) != 0) return os_error("cannot set the mode of a mirror folder");
  return {};
}

Result<Fd> open_mirror(int mirrors_fd, uint64_t dir_hash, uint64_t dataset_id, InodeTableWriter& inodes) {
  char name[17];
  hex16(dir_hash, name);
  Fd there(::openat(mirrors_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  Result<Fd> fd = there.valid() ? Result<Fd>(std::move(there)) : make_dir(mirrors_fd, name, 0755);
  if (!fd) return fd;
  if (Status s = complete(fd->get()); !s) return s.error();
  struct stat st;
  if (::fstat(fd->get(), &st) != 0) return os_error("cannot stat a mirror folder");
  InodeKind kind = dataset_id == 0 ? InodeKind::kNamespaceDirectory : InodeKind::kDirectory;
  if (Status s = inodes.insert(st.st_ino, dir_hash, dataset_id, kind); !s) return s.error();
  return fd;
}

void remove_mirrors(int mirrors_fd, const std::function<bool(uint64_t)>& exists) {
  (void)for_each_name(mirrors_fd, [&](const char* name) {
    uint64_t hash = 0;
    if (!parse_hex(name, 16, &hash) || exists(hash)) return;
    Result<Fd> fd = open_dir(mirrors_fd, name);
    if (!fd || ::fchmod(fd->get(), 0755) != 0) return;
    ::unlinkat(fd->get(), kNotPreloaded, 0);
    ::unlinkat(mirrors_fd, name, AT_REMOVEDIR);
  });
}

}  // namespace larder
