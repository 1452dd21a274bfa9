#include "cached/cache/object_cache.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>

#include "cached/base/files.h"
#include "cached/base/log.h"
#include "cached/cache/lazy_file.h"
#include "cached/catalog/oid_name.h"

namespace larder {

// ---- Room
// ------------------------------------------------------------------------------------------------------------

Room::Room(Room&& o) noexcept
    : cache_(std::exchange(o.cache_, nullptr)),
      dataset_(o.dataset_),
      bytes_(o.bytes_),
      unwritten_(o.unwritten_),
      staged_(o.staged_),
      chunk_(o.chunk_) {}

Room& Room::operator=(Room&& o) noexcept {
  std::swap(cache_, o.cache_);
  std::swap(dataset_, o.dataset_);
  std::swap(bytes_, o.bytes_);
  std::swap(unwritten_, o.unwritten_);
  std::swap(staged_, o.staged_);
  std::swap(chunk_, o.chunk_);
  return *this;
}

Room::~Room() {
  if (!cache_) return;
  std::lock_guard lock(cache_->mutex_);
  cache_->release(*this);
}

void Room::wrote(uint64_t bytes) {
  uint64_t n = std::min(bytes, unwritten_);
  unwritten_ -= n;
  cache_->unwritten_.fetch_sub(n, std::memory_order_relaxed);
}

Room ObjectCache::reserve(Dataset& d, uint64_t bytes, Kind kind, bool chunk) {
  Room room;
  room.cache_ = this;
  room.dataset_ = &d;
  room.bytes_ = room.unwritten_ = bytes;
  room.staged_ = kind != Kind::kKept;
  room.chunk_ = chunk;
  reserved_ += bytes;
  d.reserved_bytes += bytes;
  unwritten_ += bytes;
  if (kind == Kind::kStaged) {
    staged_bytes_ += bytes;
    d.staged_bytes += bytes;
  }
  return room;
}

void ObjectCache::release(Room& room) {
  reserved_ -= room.bytes_;
  room.dataset_->reserved_bytes -= room.bytes_;
  unwritten_ -= room.unwritten_;
  if (room.staged_ && !room.chunk_) {
    staged_bytes_ -= room.bytes_;
    room.dataset_->staged_bytes -= room.bytes_;
  }
  room.cache_ = nullptr;
}

// ---- accounting
// ------------------------------------------------------------------------------------------------------

ObjectCache::ObjectCache(CacheDir& dir, InodeTableWriter& inodes, Meter& meter, CacheLimits limits)
    : dir_(dir), inodes_(inodes), meter_(meter), limits_(limits) {}

void ObjectCache::uncount(Dataset& d, uint64_t bytes) {
  d.cached_bytes -= std::min(d.cached_bytes, bytes);
  d.cached_files -= std::min<uint64_t>(d.cached_files, 1);
  cached_bytes_ -= std::min(cached_bytes_, bytes);
  cached_files_ -= std::min<uint64_t>(cached_files_, 1);
}

void ObjectCache::forget_staged(Dataset& d, ObjectId oid) {
  auto it = staged_sizes_.find(oid);
  if (it == staged_sizes_.end()) return;
  staged_bytes_ -= it->second;
  d.staged_bytes -= it->second;
  staged_sizes_.erase(it);
}

CacheUsage ObjectCache::usage() {
  std::lock_guard lock(mutex_);
  return {limits_.cache_size, used_locked(), zombie_bytes_, staged_bytes_, cached_files_};
}

ObjectCache::DatasetUsage ObjectCache::usage_of(const Dataset& d) {
  std::lock_guard lock(mutex_);
  ChunkHolder::Usage chunks = chunks_ ? chunks_->usage_of(d) : ChunkHolder::Usage{};
  return {d.cached_files + chunks.files,
          d.cached_bytes + chunks.bytes,
          chunks.files,
          static_cast<double>(d.cached_files) + chunks.shares,
          d.pins->files(),
          d.pins->bytes()};
}

uint64_t ObjectCache::in_use(Dataset& d) {
  std::lock_guard lock(mutex_);
  take_touches_locked(d);
  return d.in_use.count(d.folder_fd());
}

// ---- removing files
// --------------------------------------------------------------------------------------------------

ObjectCache::Removed ObjectCache::remove_file(Dataset& d, const char* name, bool even_if_used,
                                              const std::function<void()>& before_unlink) {
  Fd fd(::openat(d.folder_fd(), name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat st;
  if (!fd.valid() || ::fstat(fd.get(), &st) != 0)
    return errno == ENOENT ? (before_unlink(), Removed::kGone) : Removed::kBusy;
  if (!even_if_used && !nobody_else_has(fd.get())) return Removed::kBusy;
  before_unlink();
  if (::unlinkat(d.folder_fd(), name, 0) != 0) {
    spdlog::error("cannot unlink {} of {}: errno {}", name, d.label(), errno);
    return Removed::kBusy;
  }
  uint64_t bytes = on_disk(static_cast<uint64_t>(st.st_size));
  uncount(d, bytes);
  ObjectId oid;
  if (parse_oid(name, &oid)) forget_staged(d, oid);
  if (nobody_else_has(fd.get())) return inodes_.remove(st.st_ino), Removed::kFreed;
  zombie_bytes_ += bytes;  // somebody has it open, or slipped in between: it counts until they are done
  zombies_.push_back(Zombie{std::move(fd), bytes, st.st_ino});
  return Removed::kZombie;
}

ObjectCache::Removed ObjectCache::remove_entry(Dataset& d, CatalogVersion& v, uint32_t entry, bool even_if_used) {
  const CatalogEntry& e = v.catalog().entries[entry];
  bool was_resident = v.state(entry) == kResident;
  Removed r = remove_file(d, oid_name(e.oid).c_str(), even_if_used, [&] { v.set_state(entry, kAbsent); });
  if (r == Removed::kGone && was_resident) {
    uncount(d, on_disk(e.size));
    forget_staged(d, e.oid);
  }
  if (r != Removed::kBusy && d.sieve) d.sieve->remove(entry);
  return r;
}

void ObjectCache::poll_zombies() {
  std::lock_guard lock(mutex_);
  for (auto it = zombies_.begin(); it != zombies_.end();) {
    if (!nobody_else_has(it->fd.get())) {
      ++it;
      continue;
    }
    inodes_.remove(it->inode);
    zombie_bytes_ -= it->bytes;
    it = zombies_.erase(it);
  }
}

// ---- publishing
// ------------------------------------------------------------------------------------------------------

Status ObjectCache::publish(const Object& o, ObjectWriter& writer, Room room) {
  Dataset& d = *o.dataset;
  std::string name = oid_name(o.oid);
  std::lock_guard lock(mutex_);
  std::shared_ptr<CatalogVersion> v = d.version();
  uint32_t entry = v ? v->find_file(o.path) : kNoEntry;
  Status s;
  if (entry == kNoEntry || v->catalog().entries[entry].oid != o.oid)
    s = make_error(ESTALE, "the object changed while it was fetched");
  if (s) s = d.sums->append(o.oid, writer.sum());
  if (uint64_t growth = inodes_.growth_bytes(); s && growth != 0) free_anything(growth);
  if (s) s = inodes_.insert(writer.real_inode(), file_inode(o.oid), d.id(), InodeKind::kFile);
  if (s) s = link_file(writer.fd(), d.folder_fd(), name);
  if (!s && s.error().code == EEXIST) {  // a file that residency does not know: not to be trusted
    remove_file(d, name.c_str(), true, [] {});
    s = link_file(writer.fd(), d.folder_fd(), name);
  }
  bool staged = room.staged_;
  uint64_t bytes = room.bytes_;
  release(room);
  if (!s) return inodes_.remove(writer.real_inode()), s;
  d.cached_bytes += bytes;
  d.cached_files += 1;
  cached_bytes_ += bytes;
  cached_files_ += 1;
  if (staged) {
    staged_sizes_[o.oid] = bytes;
    staged_bytes_ += bytes;
    d.staged_bytes += bytes;
    staged_.push_back(Staged{o.dataset, o.path, o.oid});
  }
  v->set_state(entry, kResident);
  if (Sieve* sieve = sieve_of(d, *v)) sieve->add(entry);
  if (d.sums->records() > 2 * d.cached_files + 4096) compact_sums(d, *v);
  return {};
}

void ObjectCache::compact_sums(Dataset& d, const CatalogVersion& v) {
  std::vector<ObjectId> live;
  for (uint32_t i = 0; i < v.catalog().entry_count; ++i)
    if (v.state(i) == kResident) live.push_back(v.catalog().entries[i].oid);
  std::sort(live.begin(), live.end(), oid_less);
  if (Status s = d.sums->compact(live); !s)
    spdlog::warn("checksums of {} were not compacted: {}", d.label(), s.error().message);
}

Result<Fd> ObjectCache::open_resident(Dataset& d, uint32_t entry) {
  std::shared_ptr<CatalogVersion> v = d.version();
  if (!v || entry >= v->catalog().entry_count) return make_error(ENOENT, "no such version");
  const CatalogEntry& e = v->catalog().entries[entry];
  Fd fd(::openat(d.folder_fd(), oid_name(e.oid).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (fd.valid()) return fd;
  Error error = os_error("cannot open a cache file");
  if (error.code == ENOENT) forget(d, *v, entry);
  return error;
}

Result<Fd> ObjectCache::open_for_program(Dataset& d, uint32_t entry) {
  Result<Fd> fd = open_resident(d, entry);
  if (!fd) return fd;
  std::lock_guard lock(mutex_);
  if (std::shared_ptr<CatalogVersion> v = d.version(); v && entry < v->catalog().entry_count)
    d.in_use.opened(v->catalog().entries[entry].oid);
  return fd;
}

// A resident file that somebody else removed.
void ObjectCache::forget(Dataset& d, CatalogVersion& v, uint32_t entry) {
  std::lock_guard lock(mutex_);
  const CatalogEntry& e = v.catalog().entries[entry];
  if (d.version().get() != &v || v.state(entry) != kResident) return;
  if (::faccessat(d.folder_fd(), oid_name(e.oid).c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0) return;
  spdlog::warn("{}: the cache file of {} is gone", d.label(), shown(v.path_of(entry)));
  v.set_state(entry, kAbsent);
  uncount(d, on_disk(e.size));
  forget_staged(d, e.oid);
  if (d.sieve) d.sieve->remove(entry);
}

void ObjectCache::drop_corrupt(Dataset& d, const CatalogVersion& version, uint32_t entry) {
  std::lock_guard lock(mutex_);
  std::shared_ptr<CatalogVersion> v = d.version();
  if (v.get() != &version || v->state(entry) != kResident) return;
  remove_entry(d, *v, entry, true);
}

EvictCounts ObjectCache::evict(Dataset& d, const std::string& path) {
  EvictCounts counts;
  std::shared_ptr<CatalogVersion> v = d.version();
  uint32_t top = v ? v->find(path) : kNoEntry;
  if (top == kNoEntry) return counts;
  const CatalogEntry* entries = v->catalog().entries;
  std::vector<uint32_t> todo{top};
  while (!todo.empty()) {
    uint32_t i = todo.back();
    todo.pop_back();
    if (entries[i].is_dir()) {
      for (uint32_t k = 0; k < entries[i].dir.child_count; ++k)
        todo.push_back(entries[i].dir.first_child + k);
      continue;
    }
    if (v->state(i) == kAbsent) continue;
    std::lock_guard lock(mutex_);  // one file at a time: programs that miss go on
    if (d.version() != v) return counts;
    if (d.pins->contains(i)) {
      ++counts.pinned;
      continue;
    }
    if (v->state(i) == kLazy) {
      uint64_t bytes = chunks_ ? chunks_->evict_object(d, entries[i].oid) : 0;
      chunk_bytes_ -= std::min(chunk_bytes_, bytes);
      counts.files += bytes > 0;
      counts.bytes += bytes;
      continue;
    }
    Removed r = remove_entry(d, *v, i, false);
    counts.busy += r == Removed::kBusy || r == Removed::kZombie;
    counts.files += r == Removed::kFreed;
    if (r == Removed::kFreed) counts.bytes += entries[i].size;
  }
  return counts;
}

// ---- chunks
// ----------------------------------------------------------------------------------------------------------

void ObjectCache::chunk_landed(Room room) {
  std::lock_guard lock(mutex_);
  chunk_bytes_ += room.bytes_;
  room.dataset_->chunk_bytes += room.bytes_;
  release(room);
}

void ObjectCache::chunks_gone(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  chunk_bytes_ -= std::min(chunk_bytes_, bytes);
}

Result<ObjectCache::Lazy> ObjectCache::make_lazy(const Object& o) {
  std::lock_guard lock(mutex_);
  std::shared_ptr<CatalogVersion> v = o.dataset->version();
  uint32_t entry = v ? v->find_file(o.path) : kNoEntry;
  if (entry == kNoEntry || v->catalog().entries[entry].oid != o.oid)
    return make_error(ESTALE, "the object is not in the current version");
  if (v->state(entry) == kResident) return Lazy{true, false};
  if (v->state(entry) != kLazy) v->set_state(entry, kLazy);
  return Lazy{false, o.dataset->pins->contains(entry)};
}

Status ObjectCache::publish_whole(LazyFile& file, uint64_t sum, uint64_t bytes) {
  const Object& o = file.object;
  Dataset& d = *o.dataset;
  std::lock_guard lock(mutex_);
  std::shared_ptr<CatalogVersion> v = d.version();
  uint32_t entry = v ? v->find_file(o.path) : kNoEntry;
  if (entry == kNoEntry || v->catalog().entries[entry].oid != o.oid)
    return make_error(ESTALE, "the object is not in the current version");
  if (!whole_fits(d, bytes)) return make_error(ENOSPC, "the cache is too full for another whole file");
  if (Status s = d.sums->append(o.oid, sum); !s) return s;
  if (uint64_t growth = inodes_.growth_bytes(); growth != 0) free_anything(growth);
  if (Status s = inodes_.insert(file.data_inode(), file_inode(o.oid), d.id(), InodeKind::kFile); !s) return s;
  if (Status s = file.rename_to_whole(); !s) return inodes_.remove(file.data_inode()), s;
  chunk_bytes_ -= std::min(chunk_bytes_, bytes);
  d.chunk_bytes -= bytes;
  d.cached_bytes += bytes;
  d.cached_files += 1;
  cached_bytes_ += bytes;
  cached_files_ += 1;
  v->set_state(entry, kResident);
  if (Sieve* sieve = sieve_of(d, *v)) sieve->add(entry);
  return {};
}

}  // namespace larder
