#include "cached/cache/object_cache.h"

#include "cached/base/files.h"
#include "cached/base/log.h"
#include "cached/cache/lazy_file.h"
#include "cached/cache/recount.h"
#include "cached/catalog/oid_name.h"

namespace larder {

// ---- Room

Room::Room(Room&& o) noexcept
    : cache_(std::exchange(o.cache_, nullptr)),
      reservation_(o.reservation_),
      staged_(o.staged_),
      passing_(o.passing_) {}

Room& Room::operator=(Room&& o) noexcept {
  std::swap(cache_, o.cache_);
  std::swap(reservation_, o.reservation_);
  std::swap(staged_, o.staged_);
  std::swap(passing_, o.passing_);
  return *this;
}

Room::~Room() {
  if (!cache_) return;
  MutexLock lock(cache_->mutex_);
  cache_->release(*this);
}

void Room::wrote(uint64_t bytes) {
  cache_->budget_.wrote(*reservation_, bytes);
}

void ObjectCache::release(Room& room) {
  if (room.passing_) budget_.passing_went(*room.reservation_->of, room.reservation_->bytes);
  budget_.release(room.reservation_);
  room.cache_ = nullptr;
}

// ---- datasets

ObjectCache::ObjectCache(CacheDir& dir, InodeTableWriter& inodes, Meter& meter, CacheLimits limits)
    : dir_(dir),
      inodes_(inodes),
      meter_(meter),
      budget_(dir, meter, limits),
      staging_(budget_),
      files_(inodes, budget_, staging_),
      eviction_(known_, budget_, staging_, files_),
      admission_(budget_, eviction_),
      pinning_(known_, budget_, staging_),
      takeover_(inodes, meter, budget_, files_, pinning_) {}

void ObjectCache::add(std::shared_ptr<Dataset> dataset) {
  std::unique_ptr<Pins> pins = Pins::open(dataset->folder_fd(), dir_.tmp_fd(), meter_);
  MutexLock lock(mutex_);
  DatasetRecord& r = known_.add(dataset, std::move(pins));
  takeover_.count_folder(r);
  if (chunks_) chunks_->take_over(dataset, r.accounts);
}

void ObjectCache::remove(const Dataset& dataset) {
  MutexLock lock(mutex_);
  DatasetRecord* r = known_.find(dataset);
  if (!r) return;
  staging_.forget_if(*r, [](const Staging::File&) { return true; });
  budget_.forget_files(*r->accounts);
  if (chunks_) chunks_->forget(dataset);
  known_.remove(*r);
}

std::vector<std::shared_ptr<Dataset>> ObjectCache::datasets() {
  MutexLock lock(mutex_);
  std::vector<std::shared_ptr<Dataset>> all;
  for (auto& r : known_.all())
    all.push_back(r->dataset);
  return all;
}

bool ObjectCache::make_table_room(uint64_t bytes) {
  MutexLock lock(mutex_);
  return eviction_.free_anything(bytes);
}

Status ObjectCache::adopt(Dataset& d, std::shared_ptr<CatalogVersion> v) {
  Result<Sums> sums = d.sums->load();
  if (!sums) return sums.error();
  std::vector<uint32_t> files;  // a fresh node has none: millions need not be sorted
  if (usage_of(d).files > 0) files = Takeover::files_by_oid(v->catalog());
  MutexLock lock(mutex_);
  DatasetRecord* r = known_.find(d);
  if (!r) return make_error(ESTALE, "the dataset is not known any more");
  takeover_.adopt(*r, std::move(v), files, *sums);
  return {};
}

std::shared_ptr<CatalogVersion> ObjectCache::switch_version(Dataset& d, std::shared_ptr<CatalogVersion> next,
                                                            const std::vector<Match>& matches) {
  MutexLock lock(mutex_);
  DatasetRecord* r = known_.find(d);
  return r ? takeover_.switch_version(*r, std::move(next), matches) : d.version();
}

void ObjectCache::remove_obsolete(Dataset& d, const CatalogVersion& old) {
  std::shared_ptr<CatalogVersion> v = d.version();
  if (!v) return;
  const Catalog& c = old.catalog();
  char path[4096];
  for (uint32_t i = 0; i < c.entry_count; ++i) {
    if (!c.entries[i].is_file() || old.state(i) == kAbsent) continue;
    const long len = c.path_of(i, path, sizeof path);
    const uint32_t entry = len < 0 ? kNoEntry : v->find_file({path, static_cast<size_t>(len)});
    if (entry != kNoEntry && v->catalog().entries[entry].oid == c.entries[i].oid) continue;
    MutexLock lock(mutex_);  // one file at a time: programs that miss go on
    if (DatasetRecord* r = known_.find(d)) takeover_.remove_obsolete(*r, const_cast<CatalogVersion&>(old), i);
  }
}

void ObjectCache::drop_version(Dataset& d) {
  MutexLock lock(mutex_);
  if (DatasetRecord* r = known_.find(d)) takeover_.drop_version(*r);
}

// ---- admission

Result<Room> ObjectCache::admit_locked(const Object& o, uint64_t bytes, bool demand, bool chunk) {
  recount_locked();
  DatasetRecord* r = known_.find(*o.dataset);
  if (!r) return make_error(ESTALE, "the dataset is not known any more");
  const uint64_t need = on_disk(bytes);
  Result<Admission::Kind> kind = admission_.find_room(*r, o.path, need, demand, chunk);
  if (!kind) return kind.error();
  return room_locked(*r, need, *kind, chunk);
}

Room ObjectCache::room_locked(DatasetRecord& r, uint64_t need, Admission::Kind kind, bool chunk) {
  Room room;
  room.cache_ = this;
  room.staged_ = kind == Admission::Kind::kStaged;
  room.reservation_ = budget_.reserve(r.accounts, need, room.staged_ && !chunk);
  return room;
}

Result<Room> ObjectCache::admit(const Object& o, bool demand) {
  MutexLock lock(mutex_);
  return admit_locked(o, o.size, demand, false);
}

bool ObjectCache::has_room(const Dataset& d, uint64_t size) {
  MutexLock lock(mutex_);
  DatasetRecord* r = known_.find(d);
  return r && budget_.fits(d, *r->accounts, on_disk(size));
}

void ObjectCache::make_inodes(uint64_t count) {
  for (; count > 0; --count) {
    MutexLock lock(mutex_);  // one file at a time: programs that miss go on
    if (!eviction_.evict_a_file()) return;
  }
}

bool ObjectCache::make_space(uint64_t bytes) {
  MutexLock lock(mutex_);
  return eviction_.make_space(bytes);
}

// ---- whole files

Status ObjectCache::publish(const Object& o, ObjectWriter& writer, Room room) {
  MutexLock lock(mutex_);
  std::shared_ptr<CatalogVersion> v = o.dataset->version();
  const uint32_t entry = ResidentFiles::entry_of(v.get(), o);
  DatasetRecord* r = known_.find(*o.dataset);
  if (!r || entry == kNoEntry) {
    release(room);
    return make_error(ESTALE, "the object changed while it was fetched");
  }
  if (uint64_t growth = inodes_.growth_bytes(); growth != 0) eviction_.free_anything(growth);
  release(room);
  return files_.publish(*r, *v, entry, o, writer, room.staged());
}

Result<Fd> ObjectCache::open_resident(Dataset& d, uint32_t entry) {
  std::shared_ptr<CatalogVersion> v = d.version();
  if (!v || entry >= v->catalog().entry_count) return make_error(ENOENT, "no such version");
  const CatalogEntry& e = v->catalog().entries[entry];
  Fd fd = d.open_file(oid_name(e.oid).c_str());
  if (fd.valid()) return fd;
  Error error = os_error("cannot open a cache file");
  if (error.code != ENOENT) return error;
  MutexLock lock(mutex_);
  if (DatasetRecord* r = known_.find(d)) files_.forget(*r, *v, entry);
  return error;
}

Result<Fd> ObjectCache::open_for_program(Dataset& d, uint32_t entry) {
  std::shared_ptr<CatalogVersion> v = d.version();
  if (!v || entry >= v->catalog().entry_count) return make_error(ENOENT, "no such version");
  const ObjectId oid = v->catalog().entries[entry].oid;
  Result<Fd> fd = dir_.open_for_program(object_path(d.id(), oid));
  if (!fd && fd.error().code == ENOENT) fd = dir_.open_for_program(whole_chunks_path(d.id(), oid));
  if (!fd) return open_resident(d, entry);  // which notes that it is gone
  MutexLock lock(mutex_);
  if (DatasetRecord* r = known_.find(d)) r->in_use.opened(oid);
  return fd;
}

void ObjectCache::drop_corrupt(Dataset& d, const CatalogVersion& version, uint32_t entry) {
  MutexLock lock(mutex_);
  std::shared_ptr<CatalogVersion> v = d.version();
  DatasetRecord* r = known_.find(d);
  if (!r || v.get() != &version || v->state(entry) != kResident) return;
  files_.remove_entry(*r, *v, entry, true);
}

static std::vector<uint32_t> files_below(const CatalogVersion& v, uint32_t top) {
  const CatalogEntry* entries = v.catalog().entries;
  std::vector<uint32_t> files, todo{top};
  while (!todo.empty()) {
    const uint32_t i = todo.back();
    todo.pop_back();
    if (!entries[i].is_dir()) files.push_back(i);
    for (uint32_t k = 0; entries[i].is_dir() && k < entries[i].dir.child_count; ++k)
      todo.push_back(entries[i].dir.first_child + k);
  }
  return files;
}

EvictCounts ObjectCache::evict(Dataset& d, const std::string& path) {
  EvictCounts counts;
  std::shared_ptr<CatalogVersion> v = d.version();
  const uint32_t top = v ? v->find(path) : kNoEntry;
  if (top == kNoEntry) return counts;
  for (uint32_t i : files_below(*v, top)) {
    if (v->state(i) == kAbsent) continue;
    MutexLock lock(mutex_);  // one file at a time: programs that miss go on
    DatasetRecord* r = known_.find(d);
    if (!r || d.version() != v) return counts;
    evict_one_locked(*r, *v, i, counts);
  }
  return counts;
}

void ObjectCache::evict_one_locked(DatasetRecord& r, CatalogVersion& v, uint32_t entry, EvictCounts& counts) {
  const CatalogEntry& e = v.catalog().entries[entry];
  if (r.pins->contains(entry)) {
    ++counts.pinned;
    return;
  }
  if (v.state(entry) == kLazy) {
    const uint64_t bytes = chunks_ ? chunks_->evict_object(*r.dataset, e.oid) : 0;
    counts.files += bytes > 0;
    counts.bytes += bytes;
    return;
  }
  using Removed = ResidentFiles::Removed;
  const Removed removed = files_.remove_entry(r, v, entry, false);
  counts.busy += removed == Removed::kBusy || removed == Removed::kZombie;
  counts.files += removed == Removed::kFreed;
  if (removed == Removed::kFreed) counts.bytes += e.size;
}

// ---- chunks

void ObjectCache::hold_chunks(ChunkHolder* holder) {
  MutexLock lock(mutex_);
  chunks_ = holder;
  eviction_.hold_chunks(holder);
  pinning_.hold_chunks(holder);
  takeover_.hold_chunks(holder);
}

bool ObjectCache::land_chunk(const std::shared_ptr<LazyFile>& file, uint32_t chunk, uint64_t sum, Room room) {
  MutexLock lock(mutex_);
  release(room);
  return chunks_ && chunks_->land(file, chunk, sum, room.staged());
}

Result<ObjectCache::Lazy> ObjectCache::make_lazy(const Object& o) {
  MutexLock lock(mutex_);
  std::shared_ptr<CatalogVersion> v = o.dataset->version();
  const uint32_t entry = ResidentFiles::entry_of(v.get(), o);
  DatasetRecord* r = known_.find(*o.dataset);
  if (!r || entry == kNoEntry) return make_error(ESTALE, "the object is not in the current version");
  if (v->state(entry) == kResident) return Lazy{true, false, r->accounts};
  if (v->state(entry) != kLazy) v->set_state(entry, kLazy);
  return Lazy{false, r->pins->contains(entry), r->accounts};
}

// A whole file can be in use and stay; the chunks' share must remain for chunks, which can always go.
bool ObjectCache::whole_fits_locked(const DatasetRecord& r, uint64_t bytes) {
  const uint64_t share = chunks_ ? chunks_->staging_share() : 0;
  const Dataset& d = *r.dataset;
  if (d.quota != 0 && r.accounts->cached.value() + bytes + budget_.share_of(&d, share) > budget_.limit_of(d))
    return false;
  return budget_.total().cached.value() + budget_.zombies() + bytes + budget_.tables() + share <= limits().cache_size;
}

bool ObjectCache::has_room_for_whole(const Dataset& d, uint64_t bytes) {
  MutexLock lock(mutex_);
  DatasetRecord* r = known_.find(d);
  return r && whole_fits_locked(*r, bytes);
}

Status ObjectCache::publish_whole(LazyFile& file, uint64_t sum, uint64_t bytes) {
  const Object& o = file.object;
  MutexLock lock(mutex_);
  std::shared_ptr<CatalogVersion> v = o.dataset->version();
  const uint32_t entry = ResidentFiles::entry_of(v.get(), o);
  DatasetRecord* r = known_.find(*o.dataset);
  if (!r || entry == kNoEntry) return make_error(ESTALE, "the object is not in the current version");
  if (!whole_fits_locked(*r, bytes)) return make_error(ENOSPC, "the cache is too full for another whole file");
  if (uint64_t growth = inodes_.growth_bytes(); growth != 0) eviction_.free_anything(growth);
  return files_.publish_whole(*r, *v, entry, file, sum, bytes);
}

ChunkHolder::Scrubbed ObjectCache::scrub_chunks(const Dataset& dataset, ObjectId oid) {
  ChunkHolder* chunks;
  {
    MutexLock lock(mutex_);
    chunks = chunks_;
  }
  return chunks ? chunks->scrub(dataset, oid) : ChunkHolder::Scrubbed{};
}

// ---- policies

void ObjectCache::configure(Dataset& d, std::optional<Policy> policy, std::optional<uint64_t> quota) {
  MutexLock lock(mutex_);
  if (policy) d.policy = *policy;
  if (!quota || *quota == d.quota) return;
  d.quota = *quota;
  if (DatasetRecord* r = known_.find(d)) pinning_.follow(*r);
}

void ObjectCache::keep_quota(Dataset& d) {
  for (;;) {
    MutexLock lock(mutex_);  // one file at a time: programs that miss go on
    DatasetRecord* r = known_.find(d);
    if (!r || budget_.within_quota(d, *r->accounts, 0)) return;
    if (!eviction_.evict_own(*r, r->accounts->held() - d.quota)) return;
  }
}

Status ObjectCache::pin(Dataset& d, const std::vector<std::string>& paths) {
  MutexLock lock(mutex_);
  DatasetRecord* r = known_.find(d);
  return r ? pinning_.pin(*r, paths) : Status(make_error(ESTALE, "the dataset is not mounted any more"));
}

Result<size_t> ObjectCache::unpin(Dataset& d, const std::string& path) {
  MutexLock lock(mutex_);
  DatasetRecord* r = known_.find(d);
  if (!r) return make_error(ESTALE, "the dataset is not mounted any more");
  return pinning_.unpin(*r, path);
}

// ---- housekeeping

void ObjectCache::recount_locked() {
  recount_if_distrusted(budget_, known_, staging_, files_, chunks_);
}

void ObjectCache::keep_size() {
  for (;;) {
    MutexLock lock(mutex_);  // a step at a time: programs that miss go on
    if (!budget_.exceeded() || !eviction_.free_something(0)) return;
  }
}

void ObjectCache::keep_limits() {
  {
    MutexLock lock(mutex_);
    recount_locked();
  }
  keep_size();
  const Budget::Lack lack = budget_.lack(limits().reserve);
  if (lack.bytes > 0) make_space(lack.bytes);
  if (lack.inodes > 0) make_inodes(lack.inodes);
  for (auto& d : datasets())
    keep_quota(*d);
}

void ObjectCache::poll_zombies() {
  MutexLock lock(mutex_);
  files_.poll_zombies();
}

void ObjectCache::note_use() {
  for (auto& d : datasets()) {
    MutexLock lock(mutex_);
    DatasetRecord* r = known_.find(*d);
    if (!r || !r->take_touches()) continue;
    r->in_use.count(*d);  // what was closed makes place for what is opened
  }
}

CacheUsage ObjectCache::usage() {
  MutexLock lock(mutex_);
  return {limits().cache_size,
          budget_.used(),
          budget_.zombies(),
          budget_.total().staged.value(),
          budget_.total().files.value(),
          budget_.total().passing.value(),
          passed_};
}

ObjectCache::DatasetUsage ObjectCache::usage_of(const Dataset& d) {
  MutexLock lock(mutex_);
  DatasetRecord* r = known_.find(d);
  if (!r) return {};
  const ChunkHolder::Usage chunks = chunks_ ? chunks_->usage_of(d) : ChunkHolder::Usage{};
  const uint64_t files = r->accounts->files.value();
  return {files + chunks.files, r->accounts->cached.value() + chunks.bytes,
          chunks.files,         static_cast<double>(files) + chunks.shares,
          r->pins->files(),     r->pins->bytes()};
}

std::shared_ptr<const Accounts> ObjectCache::accounts_of(const Dataset& d) {
  MutexLock lock(mutex_);
  DatasetRecord* r = known_.find(d);
  return r ? r->accounts : std::make_shared<Accounts>();
}

uint64_t ObjectCache::in_use(Dataset& d) {
  MutexLock lock(mutex_);
  DatasetRecord* r = known_.find(d);
  if (!r) return 0;
  r->take_touches();
  return r->in_use.count(d);
}

}  // namespace larder
