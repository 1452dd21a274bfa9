#include "cached/object_cache.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>

#include "cached/files.h"
#include "cached/lazy_file.h"
#include "cached/log.h"

namespace larder {

// How many files in use are tried before a search for something to evict ends: each try costs two system calls.
static constexpr int kMaxBusy = 256;
// Kept free of the budget for tables that grow by a page after an admission (checksums, catalogs of mount points).
static constexpr uint64_t kTableSlack = 16 * 1024;

static bool parse_oid(std::string_view name, ObjectId* oid) {
  return name.size() == 32 && parse_hex(name.substr(0, 16), 16, &oid->hi) && parse_hex(name.substr(16), 16, &oid->lo);
}

static std::string name_of(ObjectId oid) {
  char name[33];
  object_name(oid, name);
  return name;
}

// ---- Room ------------------------------------------------------------------------------------------------------------

Room::Room(Room&& o) noexcept
    : cache_(std::exchange(o.cache_, nullptr)), bytes_(o.bytes_), unwritten_(o.unwritten_), staged_(o.staged_), chunk_(o.chunk_) {}

Room& Room::operator=(Room&& o) noexcept {
  std::swap(cache_, o.cache_);
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

Room ObjectCache::reserve(uint64_t bytes, bool staged, bool chunk) {
  Room room;
  room.cache_ = this;
  room.bytes_ = room.unwritten_ = bytes;
  room.staged_ = staged;
  room.chunk_ = chunk;
  reserved_ += bytes;
  unwritten_ += bytes;
  if (staged && !chunk) staged_bytes_ += bytes;
  return room;
}

void ObjectCache::release(Room& room) {
  reserved_ -= room.bytes_;
  unwritten_ -= room.unwritten_;
  if (room.staged_ && !room.chunk_) staged_bytes_ -= room.bytes_;
  room.cache_ = nullptr;
}

// ---- accounting ------------------------------------------------------------------------------------------------------

ObjectCache::ObjectCache(CacheDir& dir, InodeTableWriter& inodes, Meter& meter, CacheLimits limits)
    : dir_(dir), inodes_(inodes), meter_(meter), limits_(limits) {}

uint64_t ObjectCache::used_locked() const { return cached_bytes_ + chunk_bytes_ + reserved_ + zombie_bytes_ + meter_.load(std::memory_order_relaxed); }

bool ObjectCache::fits(uint64_t need) const {
  if (used_locked() + need + kTableSlack > limits_.cache_size) return false;
  return fs_space(dir_.fd()).free >= limits_.reserve + unwritten_.load(std::memory_order_relaxed) + need;
}

void ObjectCache::uncount(Dataset& d, uint64_t bytes) {
  d.cached_bytes -= std::min(d.cached_bytes, bytes);
  d.cached_files -= std::min<uint64_t>(d.cached_files, 1);
  cached_bytes_ -= std::min(cached_bytes_, bytes);
  cached_files_ -= std::min<uint64_t>(cached_files_, 1);
}

void ObjectCache::forget_staged(ObjectId oid) {
  auto it = staged_sizes_.find(oid);
  if (it == staged_sizes_.end()) return;
  staged_bytes_ -= it->second;
  staged_sizes_.erase(it);
}

CacheUsage ObjectCache::usage() {
  std::lock_guard lock(mutex_);
  return {limits_.cache_size, used_locked(), zombie_bytes_, staged_bytes_, cached_files_};
}

ObjectCache::DatasetUsage ObjectCache::usage_of(const Dataset& d) {
  std::lock_guard lock(mutex_);
  ChunkHolder::Usage chunks = chunks_ ? chunks_->usage_of(d) : ChunkHolder::Usage{};
  return {d.cached_files + chunks.files, d.cached_bytes + chunks.bytes, chunks.files, static_cast<double>(d.cached_files) + chunks.shares};
}

uint64_t ObjectCache::in_use(Dataset& d) {
  std::lock_guard lock(mutex_);
  take_touches_locked(d);
  return d.in_use.count(d.folder_fd());
}

// ---- removing files --------------------------------------------------------------------------------------------------

ObjectCache::Removed ObjectCache::remove_file(Dataset& d, const char* name, bool even_if_used, const std::function<void()>& before_unlink) {
  Fd fd(::openat(d.folder_fd(), name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat st;
  if (!fd.valid() || ::fstat(fd.get(), &st) != 0) return errno == ENOENT ? (before_unlink(), Removed::kGone) : Removed::kBusy;
  if (!even_if_used && !nobody_else_has(fd.get())) return Removed::kBusy;
  before_unlink();
  if (::unlinkat(d.folder_fd(), name, 0) != 0) {
    spdlog::error("cannot unlink {} of {}: errno {}", name, d.label(), errno);
    return Removed::kBusy;
  }
  uint64_t bytes = on_disk(static_cast<uint64_t>(st.st_size));
  uncount(d, bytes);
  ObjectId oid;
  if (parse_oid(name, &oid)) forget_staged(oid);
  if (nobody_else_has(fd.get())) return inodes_.remove(st.st_ino), Removed::kFreed;
  zombie_bytes_ += bytes;  // somebody has it open, or slipped in between: it counts until they are done
  zombies_.push_back(Zombie{std::move(fd), bytes, st.st_ino});
  return Removed::kZombie;
}

ObjectCache::Removed ObjectCache::remove_entry(Dataset& d, CatalogVersion& v, uint32_t entry, bool even_if_used) {
  const CatalogEntry& e = v.catalog().entries[entry];
  bool was_resident = v.state(entry) == kResident;
  Removed r = remove_file(d, name_of(e.oid).c_str(), even_if_used, [&] { v.set_state(entry, kAbsent); });
  if (r == Removed::kGone && was_resident) {
    uncount(d, on_disk(e.size));
    forget_staged(e.oid);
  }
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

// ---- making room -----------------------------------------------------------------------------------------------------

// Files of a leftover dataset until `need` fits. Without a version (unmounted) its folder tells what there is.
void ObjectCache::free_leftovers_of(Dataset& d, uint64_t need) {
  while (!fits(need) && evict_chunk(false, &d)) {
  }
  if (d.version()) {
    while (!fits(need) && evict_kept(d)) {
    }
    return;
  }
  int busy = 0;
  (void)for_names_while(d.folder_fd(), [&](const char* name) {
    ObjectId oid;
    if (parse_oid(name, &oid)) busy += remove_file(d, name, false, [] {}) == Removed::kBusy;
    return busy < kMaxBusy && !fits(need);
  });
  if (d.cached_files == 0) remove_empty_leftover(d);
}

void ObjectCache::remove_empty_leftover(Dataset& d) {
  (void)for_each_name(d.folder_fd(), [&](const char* name) {
    std::string_view n = name;
    if (n.starts_with("catalog.") || n.starts_with("residency.")) ::unlinkat(d.folder_fd(), name, 0);
  });
  (void)d.sums->compact({});
  d.tables = Charge();
}

bool ObjectCache::free_leftovers(const Dataset& for_whom, uint64_t need) {
  std::vector<std::shared_ptr<Dataset>> idle;
  int64_t now = wall_ns();
  for (auto& d : datasets_) {
    bool leftover = !d->version() || now - d->last_use_ns.load() > kIdleAfterNs;
    bool has_files = d->cached_files > 0 || (chunks_ && chunks_->usage_of(*d).bytes > 0);
    if (d.get() != &for_whom && has_files && leftover) idle.push_back(d);
  }
  std::sort(idle.begin(), idle.end(), [](auto& a, auto& b) { return a->last_use_ns.load() < b->last_use_ns.load(); });
  for (auto& d : idle) {
    free_leftovers_of(*d, need);
    if (fits(need)) return true;
  }
  return fits(need);
}

bool ObjectCache::evict_oldest_staged() {
  int busy = 0;
  for (size_t n = staged_.size(); n > 0 && busy < kMaxBusy; --n) {
    Staged s = std::move(staged_.front());
    staged_.pop_front();
    if (!staged_sizes_.contains(s.oid)) continue;  // went another way
    std::shared_ptr<CatalogVersion> v = s.dataset->version();
    uint32_t entry = v ? v->find_file(s.path) : kNoEntry;
    bool current = entry != kNoEntry && v->catalog().entries[entry].oid == s.oid;
    Removed r = current ? remove_entry(*s.dataset, *v, entry, false) : remove_file(*s.dataset, name_of(s.oid).c_str(), false, [] {});
    if (r == Removed::kFreed) return true;
    if (r == Removed::kBusy) {
      ++busy;
      staged_.push_back(std::move(s));
    }
  }
  return false;
}

// One resident file that is neither staged nor in use, from the end of the catalog backwards, going on where it stopped.
bool ObjectCache::evict_kept(Dataset& d) {
  std::shared_ptr<CatalogVersion> v = d.version();
  if (!v || d.cached_files == 0) return false;
  uint32_t count = v->catalog().entry_count;
  int busy = 0;
  for (uint32_t n = 0; n < count && busy < kMaxBusy; ++n) {
    if (d.evict_cursor == 0 || d.evict_cursor > count) d.evict_cursor = count;
    uint32_t entry = --d.evict_cursor;
    if (v->state(entry) != kResident || staged_sizes_.contains(v->catalog().entries[entry].oid)) continue;
    Removed r = remove_entry(d, *v, entry, false);
    if (r == Removed::kFreed) return true;
    busy += r == Removed::kBusy;
  }
  return false;
}

bool ObjectCache::evict_any_kept(Dataset& first) {
  if (evict_kept(first)) return true;
  std::vector<std::shared_ptr<Dataset>> others;
  for (auto& d : datasets_)
    if (d.get() != &first && d->version()) others.push_back(d);
  std::sort(others.begin(), others.end(), [](auto& a, auto& b) { return a->last_use_ns.load() < b->last_use_ns.load(); });
  return std::any_of(others.begin(), others.end(), [this](auto& d) { return evict_kept(*d); });
}

bool ObjectCache::make_staging_room(Dataset& d, uint64_t need) {
  while (!fits(need)) {
    bool share_is_full = staged_bytes_ + need > limits_.staging;
    if (share_is_full && evict_oldest_staged()) continue;
    if (evict_any_kept(d) || evict_chunk(false)) continue;
    if (!share_is_full && evict_oldest_staged()) continue;
    if (evict_chunk(true)) continue;
    return false;
  }
  return true;
}

// ---- chunks ----------------------------------------------------------------------------------------------------------

bool ObjectCache::evict_chunk(bool staged, const Dataset* of) {
  uint64_t bytes = !chunks_ ? 0 : staged ? chunks_->evict_staged() : chunks_->evict_kept(of);
  chunk_bytes_ -= std::min(chunk_bytes_, bytes);
  return bytes > 0;
}

// As make_staging_room(), with the chunks' own share.
bool ObjectCache::make_chunk_room(Dataset& d, uint64_t need) {
  while (!fits(need)) {
    bool share_is_full = chunks_->staged_bytes() + need > chunks_->staging_share();
    if (share_is_full && evict_chunk(true)) continue;
    if (share_is_full && chunks_->staged_bytes() > 0) return false;  // all of them came a moment ago
    if (evict_chunk(false, &d) || evict_any_kept(d) || evict_chunk(false)) continue;
    if (evict_oldest_staged() || evict_chunk(true)) continue;
    return false;
  }
  return true;
}

Result<Room> ObjectCache::admit_chunk(Dataset& d, uint64_t bytes, bool demand) {
  uint64_t need = on_disk(bytes);
  std::lock_guard lock(mutex_);
  if (need + meter_.load() + kTableSlack > limits_.cache_size)
    return make_error(EFBIG, fmt::format("a chunk has {} bytes and the cache {}; give a larger cache_size", bytes, limits_.cache_size));
  if (fits(need) || free_leftovers(d, need)) return reserve(need, false, true);
  if (!demand) return make_error(ENOSPC, fmt::format("the cache is full ({} bytes)", limits_.cache_size));
  if (make_chunk_room(d, need)) return reserve(need, true, true);
  return make_error(EAGAIN, fmt::format("no room for {} bytes: cache_size is {} and everything in the cache is in use", bytes, limits_.cache_size));
}

void ObjectCache::chunk_landed(Room room) {
  std::lock_guard lock(mutex_);
  chunk_bytes_ += room.bytes_;
  release(room);
}

void ObjectCache::chunks_gone(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  chunk_bytes_ -= std::min(chunk_bytes_, bytes);
}

Result<bool> ObjectCache::make_lazy(const Object& o) {
  std::lock_guard lock(mutex_);
  std::shared_ptr<CatalogVersion> v = o.dataset->version();
  uint32_t entry = v ? v->find_file(o.path) : kNoEntry;
  if (entry == kNoEntry || v->catalog().entries[entry].oid != o.oid) return make_error(ESTALE, "the object is not in the current version");
  if (v->state(entry) == kResident) return false;
  if (v->state(entry) != kLazy) v->set_state(entry, kLazy);
  return true;
}

// A whole file can be in use and stay; the chunks' share must remain for chunks, which can always go.
bool ObjectCache::whole_fits(uint64_t bytes) const {
  return cached_bytes_ + zombie_bytes_ + bytes + meter_.load() + chunks_->staging_share() <= limits_.cache_size;
}

bool ObjectCache::has_room_for_whole(uint64_t bytes) const {
  std::lock_guard lock(mutex_);
  return whole_fits(bytes);
}

Status ObjectCache::publish_whole(LazyFile& file, uint64_t sum, uint64_t bytes) {
  const Object& o = file.object;
  Dataset& d = *o.dataset;
  std::lock_guard lock(mutex_);
  std::shared_ptr<CatalogVersion> v = d.version();
  uint32_t entry = v ? v->find_file(o.path) : kNoEntry;
  if (entry == kNoEntry || v->catalog().entries[entry].oid != o.oid) return make_error(ESTALE, "the object is not in the current version");
  if (!whole_fits(bytes)) return make_error(ENOSPC, "the cache is too full for another whole file");
  if (Status s = d.sums->append(o.oid, sum); !s) return s;
  if (uint64_t growth = inodes_.growth_bytes(); growth != 0) free_anything(growth);
  if (Status s = inodes_.insert(file.data_inode(), file_inode(o.oid), d.id(), InodeKind::kFile); !s) return s;
  if (Status s = file.rename_to_whole(); !s) return inodes_.remove(file.data_inode()), s;
  chunk_bytes_ -= std::min(chunk_bytes_, bytes);
  d.cached_bytes += bytes;
  d.cached_files += 1;
  cached_bytes_ += bytes;
  cached_files_ += 1;
  v->set_state(entry, kResident);
  return {};
}

void ObjectCache::keep_reserve() {
  uint64_t free = fs_space(dir_.fd()).free;
  if (free < limits_.reserve) make_space(limits_.reserve - free);
}

// ---- admission -------------------------------------------------------------------------------------------------------

Result<Room> ObjectCache::admit(Dataset& d, uint64_t size, bool demand) {
  uint64_t need = on_disk(size);
  std::lock_guard lock(mutex_);
  if (need + meter_.load() + kTableSlack > limits_.cache_size)
    return make_error(EFBIG, fmt::format("the object has {} bytes and the cache {}; give a larger cache_size", size, limits_.cache_size));
  if (fits(need)) return reserve(need, false);
  if (free_leftovers(d, need)) return reserve(need, false);
  if (!demand) return make_error(ENOSPC, fmt::format("the cache is full ({} bytes)", limits_.cache_size));
  if (make_staging_room(d, need)) return reserve(need, true);
  return make_error(EAGAIN, fmt::format("no room for {} bytes: cache_size is {} and every file in the cache is in use", size, limits_.cache_size));
}

bool ObjectCache::has_room(uint64_t size) {
  std::lock_guard lock(mutex_);
  return fits(on_disk(size));
}

bool ObjectCache::make_space(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  auto held = [this] { return cached_bytes_ + chunk_bytes_; };
  uint64_t before = held(), want = on_disk(bytes);
  while (before - held() < want) {
    if (evict_oldest_staged() || evict_chunk(true) || evict_chunk(false)) continue;
    bool freed = std::any_of(datasets_.begin(), datasets_.end(), [this](auto& d) { return evict_kept(*d); });
    if (!freed) break;
  }
  return held() < before;
}

// ---- publishing ------------------------------------------------------------------------------------------------------

Result<std::shared_ptr<Fd>> ObjectCache::publish(const Object& o, ObjectWriter& writer, Room room) {
  Dataset& d = *o.dataset;
  std::string name = name_of(o.oid);
  std::lock_guard lock(mutex_);
  std::shared_ptr<CatalogVersion> v = d.version();
  uint32_t entry = v ? v->find_file(o.path) : kNoEntry;
  Status s;
  if (entry == kNoEntry || v->catalog().entries[entry].oid != o.oid) s = make_error(ESTALE, "the object changed while it was fetched");
  if (s) s = d.sums->append(o.oid, writer.sum());
  if (uint64_t growth = inodes_.growth_bytes(); s && growth != 0) free_anything(growth);
  if (s) s = inodes_.insert(writer.real_inode(), file_inode(o.oid), d.id(), InodeKind::kFile);
  if (s) s = link_file(writer.fd(), d.folder_fd(), name);
  if (!s && s.error().code == EEXIST) {  // a file that residency does not know: not to be trusted
    remove_file(d, name.c_str(), true, [] {});
    s = link_file(writer.fd(), d.folder_fd(), name);
  }
  auto reader = std::make_shared<Fd>(s ? ::openat(d.folder_fd(), name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1);
  if (s && !reader->valid()) {
    s = os_error("cannot open a cache file");
    ::unlinkat(d.folder_fd(), name.c_str(), 0);
  }
  bool staged = room.staged_;
  uint64_t bytes = room.bytes_;
  release(room);
  if (!s) return inodes_.remove(writer.real_inode()), s.error();
  d.cached_bytes += bytes;
  d.cached_files += 1;
  cached_bytes_ += bytes;
  cached_files_ += 1;
  if (staged) {
    staged_sizes_[o.oid] = bytes;
    staged_bytes_ += bytes;
    staged_.push_back(Staged{o.dataset, o.path, o.oid});
  }
  d.in_use.opened(o.oid);  // a program that waited gets a descriptor without a touch
  v->set_state(entry, kResident);
  if (d.sums->records() > 2 * d.cached_files + 4096) compact_sums(d, *v);
  return reader;
}

void ObjectCache::compact_sums(Dataset& d, const CatalogVersion& v) {
  std::vector<ObjectId> live;
  for (uint32_t i = 0; i < v.catalog().entry_count; ++i)
    if (v.state(i) == kResident) live.push_back(v.catalog().entries[i].oid);
  std::sort(live.begin(), live.end(), oid_less);
  if (Status s = d.sums->compact(live); !s) spdlog::warn("checksums of {} were not compacted: {}", d.label(), s.error().message);
}

Result<Fd> ObjectCache::open_resident(Dataset& d, uint32_t entry) {
  std::shared_ptr<CatalogVersion> v = d.version();
  if (!v || entry >= v->catalog().entry_count) return make_error(ENOENT, "no such version");
  const CatalogEntry& e = v->catalog().entries[entry];
  Fd fd(::openat(d.folder_fd(), name_of(e.oid).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (fd.valid()) return fd;
  Error error = os_error("cannot open a cache file");
  if (error.code == ENOENT) forget(d, *v, entry);
  return error;
}

// A resident file that somebody else removed.
void ObjectCache::forget(Dataset& d, CatalogVersion& v, uint32_t entry) {
  std::lock_guard lock(mutex_);
  const CatalogEntry& e = v.catalog().entries[entry];
  if (d.version().get() != &v || v.state(entry) != kResident) return;
  if (::faccessat(d.folder_fd(), name_of(e.oid).c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0) return;
  spdlog::warn("{}: the cache file of {} is gone", d.label(), shown(v.path_of(entry)));
  v.set_state(entry, kAbsent);
  uncount(d, on_disk(e.size));
  forget_staged(e.oid);
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
      for (uint32_t k = 0; k < entries[i].dir.child_count; ++k) todo.push_back(entries[i].dir.first_child + k);
      continue;
    }
    if (v->state(i) == kAbsent) continue;
    std::lock_guard lock(mutex_);  // one file at a time: programs that miss go on
    if (d.version() != v) return counts;
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

// ---- datasets --------------------------------------------------------------------------------------------------------

void ObjectCache::add(std::shared_ptr<Dataset> dataset) {
  std::lock_guard lock(mutex_);
  datasets_.push_back(dataset);
  count_folder(*dataset);
  if (chunks_) chunk_bytes_ += chunks_->take_over(dataset);
}

void ObjectCache::remove(const Dataset& dataset) {
  std::lock_guard lock(mutex_);
  auto it = std::find_if(datasets_.begin(), datasets_.end(), [&](auto& d) { return d.get() == &dataset; });
  if (it == datasets_.end()) return;
  cached_bytes_ -= std::min(cached_bytes_, (*it)->cached_bytes);
  cached_files_ -= std::min(cached_files_, (*it)->cached_files);
  (*it)->tables = Charge();
  if (chunks_) chunk_bytes_ -= std::min(chunk_bytes_, chunks_->forget(dataset));
  datasets_.erase(it);
}

bool ObjectCache::make_table_room(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  return free_anything(bytes);
}

bool ObjectCache::free_anything(uint64_t bytes) {
  while (!fits(bytes)) {
    if (evict_oldest_staged() || evict_chunk(true)) continue;
    uint64_t before = cached_bytes_;
    for (auto& d : datasets_)
      if (!d->version() && d->cached_files > 0) free_leftovers_of(*d, bytes);
    if (cached_bytes_ < before) continue;
    if (evict_chunk(false)) continue;
    if (std::none_of(datasets_.begin(), datasets_.end(), [this](auto& d) { return evict_kept(*d); })) return false;
  }
  return true;
}

void ObjectCache::count_folder(Dataset& d) {
  uint64_t tables = 0;
  (void)for_each_name(d.folder_fd(), [&](const char* name) {
    struct stat st;
    ObjectId oid;
    if (::fstatat(d.folder_fd(), name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode)) return;
    uint64_t bytes = on_disk(static_cast<uint64_t>(st.st_size));
    if (!parse_oid(name, &oid)) {
      if (std::string_view(name) != "sums") tables += bytes;
      return;
    }
    d.cached_bytes += bytes;
    d.cached_files += 1;
    cached_bytes_ += bytes;
    cached_files_ += 1;
  });
  d.tables = Charge(meter_, tables);
}

// A file found on disk: the right size, the daemon's own, read-only, and with a checksum to verify it by.
bool ObjectCache::check_file(Dataset& d, const char* name, const CatalogEntry& e, const Sums& sums) {
  struct stat st;
  if (::fstatat(d.folder_fd(), name, &st, AT_SYMLINK_NOFOLLOW) != 0) return false;
  if (!S_ISREG(st.st_mode) || st.st_uid != ::geteuid() || (st.st_mode & 0222) != 0 || st.st_nlink != 1) return false;
  if (static_cast<uint64_t>(st.st_size) != e.size || !sums.find(e.oid)) return false;
  struct timespec t = {e.mtime_ns / 1000000000, e.mtime_ns % 1000000000};
  if (t.tv_nsec < 0) t = {t.tv_sec - 1, t.tv_nsec + 1000000000};
  struct timespec times[2] = {t, t};
  bool same_time = st.st_mtim.tv_sec == t.tv_sec && st.st_mtim.tv_nsec == t.tv_nsec;
  if (!same_time && ::utimensat(d.folder_fd(), name, times, AT_SYMLINK_NOFOLLOW) != 0) return false;
  return inodes_.insert(st.st_ino, file_inode(e.oid), d.id(), InodeKind::kFile).ok();
}

static std::vector<uint32_t> files_by_oid(const Catalog& c) {
  std::vector<uint32_t> files;
  for (uint32_t i = 0; i < c.entry_count; ++i)
    if (c.entries[i].is_file()) files.push_back(i);
  std::sort(files.begin(), files.end(), [&](uint32_t a, uint32_t b) { return oid_less(c.entries[a].oid, c.entries[b].oid); });
  return files;
}

// Which entries have a good file. Object files that are nobody's go. `files`: the entries that are files, by object id.
std::vector<bool> ObjectCache::check_folder(Dataset& d, const CatalogVersion& v, const std::vector<uint32_t>& files, const Sums& sums) {
  const Catalog& c = v.catalog();
  std::vector<bool> present(c.entry_count, false);
  std::vector<std::string> bad, unknown;
  (void)for_each_name(d.folder_fd(), [&](const char* name) {
    ObjectId oid;
    std::string_view n = name;
    if (!parse_oid(n, &oid)) {
      bool known = n == "sums" || n == kMirrorFolder || n == kLazyFolder || n.starts_with("catalog.") || n.starts_with("residency.");
      if (!known) unknown.emplace_back(n);
      return;
    }
    auto it = std::lower_bound(files.begin(), files.end(), oid, [&](uint32_t a, const ObjectId& id) { return oid_less(c.entries[a].oid, id); });
    bool good = it != files.end() && c.entries[*it].oid == oid && check_file(d, name, c.entries[*it], sums);
    if (good) present[*it] = true;
    else bad.emplace_back(n);
  });
  for (const std::string& name : bad) remove_file(d, name.c_str(), true, [] {});
  if (!bad.empty()) spdlog::info("{}: {} cache files were incomplete or of an older version, and went", d.label(), bad.size());
  for (const std::string& name : unknown) spdlog::warn("{}: {} in its cache folder is not Larder's; left alone", d.label(), shown(name));
  return present;
}

Status ObjectCache::adopt(Dataset& d, std::shared_ptr<CatalogVersion> v) {
  Result<Sums> sums = d.sums->load();
  if (!sums) return sums.error();
  std::vector<uint32_t> files;
  if (usage_of(d).files > 0) files = files_by_oid(v->catalog());  // a fresh node has none: millions need not be sorted
  std::lock_guard lock(mutex_);
  std::vector<bool> present = check_folder(d, *v, files, *sums);
  for (uint32_t i = 0; i < v->catalog().entry_count; ++i) {
    uint32_t should = present[i] ? kResident : kAbsent;
    if (v->state(i) != should) v->set_state(i, should);
  }
  if (chunks_) chunk_bytes_ -= std::min(chunk_bytes_, chunks_->adopt(d, *v));
  d.set_version(std::move(v));
  d.verified = std::find(present.begin(), present.end(), true) == present.end();
  d.tables = Charge();  // the version has its own
  d.evict_cursor = 0;
  return {};
}

std::vector<ObjectCache::Match> ObjectCache::match(const CatalogVersion& from, const CatalogVersion& to) {
  std::vector<Match> matches;
  const Catalog& c = to.catalog();
  char path[4096];
  for (uint32_t i = 0; i < c.entry_count; ++i) {
    long len = c.entries[i].is_file() ? c.path_of(i, path, sizeof path) : -1;
    if (len < 0) continue;
    uint32_t old = from.find_file({path, static_cast<size_t>(len)});
    if (old != kNoEntry && from.catalog().entries[old].oid == c.entries[i].oid) matches.push_back({old, i});
  }
  return matches;
}

std::shared_ptr<CatalogVersion> ObjectCache::switch_version(Dataset& d, std::shared_ptr<CatalogVersion> next, const std::vector<Match>& matches) {
  std::lock_guard lock(mutex_);
  std::shared_ptr<CatalogVersion> old = d.version();
  for (const Match& m : matches) {
    if (!old || old->state(m.old_entry) == kAbsent) continue;
    const CatalogEntry& e = next->catalog().entries[m.new_entry];
    if (old->catalog().entries[m.old_entry].mtime_ns != e.mtime_ns) {
      struct timespec t = {e.mtime_ns / 1000000000, e.mtime_ns % 1000000000};
      struct timespec times[2] = {t, t};
      ::utimensat(d.folder_fd(), name_of(e.oid).c_str(), times, AT_SYMLINK_NOFOLLOW);
      ::utimensat(d.folder_fd(), (std::string(kLazyFolder) + "/" + name_of(e.oid)).c_str(), times, AT_SYMLINK_NOFOLLOW);
    }
    next->set_state(m.new_entry, old->state(m.old_entry));
  }
  d.set_version(std::move(next));
  d.tables = Charge();
  d.evict_cursor = 0;
  return old;
}

void ObjectCache::remove_obsolete(Dataset& d, const CatalogVersion& old) {
  char path[4096];
  std::shared_ptr<CatalogVersion> v = d.version();
  if (!v) return;
  for (uint32_t i = 0; i < old.catalog().entry_count; ++i) {
    if (!old.catalog().entries[i].is_file() || old.state(i) == kAbsent) continue;
    long len = old.catalog().path_of(i, path, sizeof path);
    uint32_t entry = len < 0 ? kNoEntry : v->find_file({path, static_cast<size_t>(len)});
    if (entry != kNoEntry && v->catalog().entries[entry].oid == old.catalog().entries[i].oid) continue;
    std::lock_guard lock(mutex_);
    if (chunks_) chunk_bytes_ -= std::min(chunk_bytes_, chunks_->drop(d, old.catalog().entries[i].oid));
    if (old.state(i) != kResident) continue;
    remove_file(d, name_of(old.catalog().entries[i].oid).c_str(), true, [&] { const_cast<CatalogVersion&>(old).set_state(i, kAbsent); });
  }
}

void ObjectCache::drop_version(Dataset& d) {
  std::lock_guard lock(mutex_);
  std::shared_ptr<CatalogVersion> v = d.version();
  if (!v) return;
  d.tables = Charge(meter_, version_bytes(v->catalog()));
  d.set_version(nullptr);
}

void ObjectCache::note_use() {
  std::vector<std::shared_ptr<Dataset>> all;
  {
    std::lock_guard lock(mutex_);
    all = datasets_;
  }
  for (auto& d : all) {
    std::lock_guard lock(mutex_);
    if (!take_touches_locked(*d)) continue;
    d->in_use.count(d->folder_fd());  // what was closed makes place for what is opened
  }
}

bool ObjectCache::take_touches_locked(Dataset& d) {
  std::shared_ptr<CatalogVersion> v = d.version();
  if (!v) return false;
  bool any = v->take_touches([&](uint32_t entry) {
    if (v->state(entry) == kResident) d.in_use.opened(v->catalog().entries[entry].oid);
  });
  if (any) d.used_now();
  if (any) ::futimens(d.folder_fd(), nullptr);  // so that a restart knows the order
  return any;
}

}  // namespace larder
