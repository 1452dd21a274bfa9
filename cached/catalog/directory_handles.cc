#include "cached/catalog/directory_handles.h"

#include <sys/stat.h>

#include "cached/base/files.h"
#include "larder/names.h"

namespace larder {

static constexpr const char* kText =
    "this process does not run under liblarder.so, so it cannot see the files of this folder";

static Status make_known(int fd, uint64_t dir_hash, uint64_t dataset_id, InodeTableWriter& inodes) {
  struct stat st;
  if (::fstat(fd, &st) != 0) return os_error("cannot stat a mirror folder");
  InodeKind kind = dataset_id == 0 ? InodeKind::kNamespaceDirectory : InodeKind::kDirectory;
  return inodes.insert(st.st_ino, dir_hash, dataset_id, kind);
}

static Status fill_mirror(int fd, uint64_t dir_hash, uint64_t dataset_id, InodeTableWriter& inodes) {
  if (::symlinkat(kText, fd, kNotPreloaded) != 0) return os_error("cannot fill a mirror folder");
  return make_known(fd, dir_hash, dataset_id, inodes);
}

static void remove_mirror(int parent, const char* name, int fd) {
  ::fchmod(fd, 0755);
  ::unlinkat(fd, kNotPreloaded, 0);
  ::unlinkat(parent, name, AT_REMOVEDIR);
}

static Result<Fd> make_mirror(int mirrors_fd, int tmp_fd, const char* name, uint64_t dir_hash, uint64_t dataset_id,
                              InodeTableWriter& inodes) {
  Result<Fd> fd = make_dir(tmp_fd, name, 0755);
  if (!fd) return fd;
  Status s = fill_mirror(fd->get(), dir_hash, dataset_id, inodes);
  if (s && ::renameat(tmp_fd, name, mirrors_fd, name) != 0) s = os_error("cannot put a mirror folder in its place");
  if (s && ::fchmod(fd->get(), 0555) != 0)
    s = os_error("cannot set the mode of a mirror folder");  // after: a rename needs w
  if (!s) return remove_mirror(tmp_fd, name, fd->get()), s.error();
  return fd;
}

// Only the server's thread makes mirrors, so a name in tmp/ is not taken by another.
Result<Fd> open_mirror(int mirrors_fd, int tmp_fd, uint64_t dir_hash, uint64_t dataset_id, InodeTableWriter& inodes) {
  const CacheName name = mirror_name(dir_hash);
  Fd there(::openat(mirrors_fd, name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (!there.valid()) return make_mirror(mirrors_fd, tmp_fd, name.c_str(), dir_hash, dataset_id, inodes);
  if (Status s = make_known(there.get(), dir_hash, dataset_id, inodes); !s) return s.error();
  return there;
}

void adopt_mirrors(int mirrors_fd, uint64_t dataset_id, InodeTableWriter& inodes) {
  (void)for_each_name(mirrors_fd, [&](const char* name) {
    uint64_t hash = 0;
    if (!parse_hex(name, 16, &hash)) return;
    if (Result<Fd> fd = open_dir(mirrors_fd, name)) (void)make_known(fd->get(), hash, dataset_id, inodes);
  });
}

void remove_mirrors(int mirrors_fd, const std::function<bool(uint64_t)>& exists) {
  (void)for_each_name(mirrors_fd, [&](const char* name) {
    uint64_t hash = 0;
    if (!parse_hex(name, 16, &hash) || exists(hash)) return;
    if (Result<Fd> fd = open_dir(mirrors_fd, name)) remove_mirror(mirrors_fd, name, fd->get());
  });
}

}  // namespace larder
