#include "cached/cache/resident_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>

#include "cached/base/files.h"
#include "cached/base/log.h"
#include "cached/cache/lazy_file.h"
#include "cached/catalog/oid_name.h"

namespace larder {

// ---- becoming resident

uint32_t ResidentFiles::entry_of(const CatalogVersion* v, const Object& o) {
  const uint32_t entry = v ? v->find_file(o.path) : kNoEntry;
  return entry != kNoEntry && v->catalog().entries[entry].oid == o.oid ? entry : kNoEntry;
}

void ResidentFiles::set_resident(DatasetRecord& r, CatalogVersion& v, uint32_t entry) {
  v.set_state(entry, kResident);
  if (Sieve* sieve = r.sieve_of(v)) sieve->add(entry);
}

Status ResidentFiles::publish(DatasetRecord& r, CatalogVersion& v, uint32_t entry, const Object& o,
                              ObjectWriter& writer, bool staged) {
  Dataset& d = *r.dataset;
  const std::string name = oid_name(o.oid);
  if (Status s = d.sums->append(o.oid, writer.sum()); !s) return s;
  if (Status s = inodes_.insert(writer.real_inode(), file_inode(o.oid), d.id(), InodeKind::kFile); !s) return s;
  Status linked = link_file(writer.fd(), d.folder_fd(), name);
  if (!linked && linked.error().code == EEXIST) {  // a file that residency does not know: not to be trusted
    remove_file(r, name.c_str(), true, [] {});
    budget_.distrust("a cache file that no entry knew of");
    linked = link_file(writer.fd(), d.folder_fd(), name);
  }
  if (!linked) {
    inodes_.remove(writer.real_inode());
    return linked;
  }
  const uint64_t bytes = on_disk(o.size);
  budget_.file_came(*r.accounts, bytes);
  if (staged) staging_.add({&r, o.path, o.oid}, bytes);
  set_resident(r, v, entry);
  if (d.sums->records() > 2 * r.accounts->files.value() + 4096) compact_sums(r, v);
  return {};
}

Result<std::shared_ptr<Fd>> ResidentFiles::pass(DatasetRecord& r, const Object& o, ObjectWriter& writer) {
  const std::string self = fmt::format("/proc/self/fd/{}", writer.fd());
  auto fd = std::make_shared<Fd>(::open(self.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd->valid()) return os_error("cannot open a cache file again");
  if (Status s = inodes_.insert(writer.real_inode(), file_inode(o.oid), r.dataset->id(), InodeKind::kFile); !s)
    return s.error();
  const uint64_t bytes = on_disk(o.size);
  budget_.zombie_came(bytes);
  zombies_.push_back(Zombie{fd, bytes, writer.real_inode(), r.accounts});
  return fd;
}

Status ResidentFiles::publish_whole(DatasetRecord& r, CatalogVersion& v, uint32_t entry, LazyFile& file, uint64_t sum,
                                    uint64_t bytes) {
  const Object& o = file.object;
  Dataset& d = *r.dataset;
  if (Status s = d.sums->append(o.oid, sum); !s) return s;
  struct stat st;
  if (::fstat(file.data_fd(), &st) != 0) return os_error("cannot stat a cache file");
  if (Status s = inodes_.insert(inodes_.key_of(st), file_inode(o.oid), d.id(), InodeKind::kFile); !s) return s;
  if (Status s = file.rename_to_whole(); !s) {
    inodes_.remove(inodes_.key_of(st));
    return s;
  }
  budget_.chunks_went(*r.accounts, bytes);
  budget_.file_came(*r.accounts, bytes);
  set_resident(r, v, entry);
  return {};
}

void ResidentFiles::compact_sums(DatasetRecord& r, const CatalogVersion& v) {
  std::vector<ObjectId> live;
  for (uint32_t i = 0; i < v.catalog().entry_count; ++i)
    if (v.state(i) == kResident) live.push_back(v.catalog().entries[i].oid);
  std::sort(live.begin(), live.end(), oid_less);
  if (Status s = r.dataset->sums->compact(live); !s)
    spdlog::warn("checksums of {} were not compacted: {}", r.dataset->label(), s.error().message);
}

// ---- going

ResidentFiles::Removed ResidentFiles::remove_file(DatasetRecord& r, const char* name, bool even_if_used,
                                                  const std::function<void()>& before_unlink) {
  const bool in_chunks = ::faccessat(r.dataset->folder_fd(), name, F_OK, AT_SYMLINK_NOFOLLOW) != 0;
  return remove_file_of(r, in_chunks ? r.dataset->chunks_fd() : r.dataset->folder_fd(), name, even_if_used,
                        before_unlink);
}

ResidentFiles::Removed ResidentFiles::remove_file_of(DatasetRecord& r, int folder, const char* name, bool even_if_used,
                                                     const std::function<void()>& before_unlink) {
  Fd fd(::openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat st;
  if (!fd.valid() || ::fstat(fd.get(), &st) != 0) {
    if (errno != ENOENT) return Removed::kBusy;
    before_unlink();
    return Removed::kGone;
  }
  if (!even_if_used && !nobody_else_has(fd.get())) return Removed::kBusy;
  before_unlink();
  if (::unlinkat(folder, name, 0) != 0) {
    spdlog::error("cannot unlink {} of {}: errno {}", name, r.dataset->label(), errno);
    return Removed::kBusy;
  }
  const uint64_t bytes = on_disk(static_cast<uint64_t>(st.st_size));
  budget_.file_went(*r.accounts, bytes);
  ObjectId oid;
  if (parse_oid(name, &oid)) staging_.forget(r, oid);
  if (nobody_else_has(fd.get())) {
    inodes_.remove(inodes_.key_of(st));
    return Removed::kFreed;
  }
  budget_.zombie_came(bytes);  // somebody has it open, or opened it between the test and the unlink
  zombies_.push_back(Zombie{std::make_shared<Fd>(std::move(fd)), bytes, inodes_.key_of(st), nullptr});
  return Removed::kZombie;
}

ResidentFiles::Removed ResidentFiles::remove_entry(DatasetRecord& r, CatalogVersion& v, uint32_t entry,
                                                   bool even_if_used) {
  const CatalogEntry& e = v.catalog().entries[entry];
  const bool was_resident = v.state(entry) == kResident;
  Removed removed = remove_file(r, oid_name(e.oid).c_str(), even_if_used, [&] { v.set_state(entry, kAbsent); });
  if (removed == Removed::kGone && was_resident) {
    budget_.file_went(*r.accounts, on_disk(e.size));
    staging_.forget(r, e.oid);
  }
  if (removed != Removed::kBusy && r.sieve) r.sieve->remove(entry);
  return removed;
}

void ResidentFiles::forget(DatasetRecord& r, CatalogVersion& v, uint32_t entry) {
  const CatalogEntry& e = v.catalog().entries[entry];
  if (r.dataset->version().get() != &v || v.state(entry) != kResident) return;
  if (r.dataset->open_file(oid_name(e.oid).c_str()).valid()) return;
  spdlog::warn("{}: the cache file of {} is gone", r.dataset->label(), shown(v.path_of(entry)));
  v.set_state(entry, kAbsent);
  budget_.file_went(*r.accounts, on_disk(e.size));
  staging_.forget(r, e.oid);
  if (r.sieve) r.sieve->remove(entry);
}

void ResidentFiles::poll_zombies() {
  std::erase_if(zombies_, [this](Zombie& z) {
    if (z.fd.use_count() > 1 || !nobody_else_has(z.fd->get())) return false;
    inodes_.remove(z.inode);
    budget_.zombie_went(z.bytes);
    if (z.passing) budget_.passing_went(*z.passing, z.bytes);
    return true;
  });
}

uint64_t ResidentFiles::zombie_bytes() const {
  uint64_t bytes = 0;
  for (const Zombie& z : zombies_)
    bytes += z.bytes;
  return bytes;
}

}  // namespace larder
