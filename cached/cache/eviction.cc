// ObjectCache: who gets room, and what goes for it.
#include <fmt/format.h>

#include <algorithm>

#include "cached/base/files.h"
#include "cached/base/log.h"
#include "cached/cache/object_cache.h"
#include "cached/catalog/oid_name.h"
#include "larder/names.h"

namespace larder {

// How many files in use are tried before a search for something to evict ends: each try costs two system calls.
static constexpr int kMaxBusy = 256;
// Kept free of the budget for tables that grow by a page after an admission (checksums, catalogs of mount points).
static constexpr uint64_t kTableSlack = 16 * 1024;
// How old an answer of the file system may be that had so much more free than is wanted: nobody writes 200 GB/s.
static constexpr int64_t kAskFsEveryNs = 5'000'000;
static constexpr uint64_t kFarFromFull = uint64_t{1} << 30;

// ---- limits
// ----------------------------------------------------------------------------------------------------------

uint64_t ObjectCache::used_locked() const {
  return cached_bytes_ + chunk_bytes_ + reserved_ + zombie_bytes_ + meter_.load(std::memory_order_relaxed);
}

bool ObjectCache::fits(uint64_t need) const {
  if (used_locked() + need + kTableSlack > limits_.cache_size) return false;
  return fs_has(limits_.reserve + unwritten_.load(std::memory_order_relaxed) + need);
}

// The file system is others', too. Asking it costs a microsecond an object, so far from full it is asked now and then.
bool ObjectCache::fs_has(uint64_t bytes) const {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  const int64_t now_ns = now.tv_sec * 1'000'000'000 + now.tv_nsec;
  if (now_ns - asked_fs_ns_ < kAskFsEveryNs && fs_free_ >= bytes + kFarFromFull) return true;
  asked_fs_ns_ = now_ns;
  fs_free_ = fs_space(dir_.fd()).free;
  return fs_free_ >= bytes;
}

bool ObjectCache::within_quota(const Dataset& d, uint64_t need) const {
  const uint64_t quota = d.quota.load(std::memory_order_relaxed);
  return quota == 0 || held(d) + need <= quota;
}

uint64_t ObjectCache::limit_of(const Dataset& d) const {
  const uint64_t quota = d.quota.load(std::memory_order_relaxed);
  return quota == 0 ? limits_.cache_size : std::min(quota, limits_.cache_size);
}

// The part of a staging share that a dataset has: within a quota, as much smaller as the quota is than the cache.
uint64_t ObjectCache::share_of(const Dataset* d, uint64_t share) const {
  if (!d) return share;
  return static_cast<uint64_t>(static_cast<double>(share) * static_cast<double>(limit_of(*d)) /
                               static_cast<double>(limits_.cache_size));
}

Error ObjectCache::too_large(const Dataset& d, uint64_t need) const {
  const bool quota = limit_of(d) < limits_.cache_size;
  return make_error(
      EFBIG, fmt::format("it takes {} bytes and {} has {}; give a larger {}", need,
                         quota ? "the dataset's quota" : "the cache", limit_of(d), quota ? "quota" : "cache_size"));
}

bool ObjectCache::has_room(const Dataset& d, uint64_t size) {
  std::lock_guard lock(mutex_);
  return fits(d, on_disk(size));
}

// ---- leftovers
// -------------------------------------------------------------------------------------------------------

// Files of a leftover dataset until `need` fits. Without a version (unmounted) its folder tells what there is.
void ObjectCache::free_leftovers_of(Dataset& d, uint64_t need) {
  while (!fits(need) && evict_kept_chunks(need, &d)) {
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
    if (is_version_file(n)) ::unlinkat(d.folder_fd(), name, 0);
  });
  (void)d.sums->compact({});
  d.tables = Charge();
}

bool ObjectCache::free_leftovers(const Dataset& for_whom, uint64_t need) {
  std::vector<std::shared_ptr<Dataset>> idle;
  int64_t now = wall_ns();
  for (auto& d : datasets_) {
    bool leftover = !d->version() || now - d->last_use_ns.load() > kIdleAfterNs;
    bool has_files = d->cached_files > 0 || d->chunk_bytes > 0;
    if (d.get() != &for_whom && has_files && leftover) idle.push_back(d);
  }
  std::sort(idle.begin(), idle.end(), [](auto& a, auto& b) { return a->last_use_ns.load() < b->last_use_ns.load(); });
  for (auto& d : idle) {
    free_leftovers_of(*d, need);
    if (fits(need)) return true;
  }
  return fits(need);
}

// ---- one file or chunk
// -----------------------------------------------------------------------------------------------

// Of one dataset, or of all.
bool ObjectCache::evict_oldest_staged(const Dataset* of) {
  int busy = 0;
  size_t at = 0;
  for (size_t n = staged_.size(); n > 0 && busy < kMaxBusy; --n) {
    if (of && staged_[at].dataset.get() != of) {
      ++at;
      continue;
    }
    Staged s = std::move(staged_[at]);
    staged_.erase(staged_.begin() + static_cast<ptrdiff_t>(at));
    if (!staged_sizes_.contains(s.oid)) continue;  // went another way
    std::shared_ptr<CatalogVersion> v = s.dataset->version();
    uint32_t entry = v ? v->find_file(s.path) : kNoEntry;
    bool current = entry != kNoEntry && v->catalog().entries[entry].oid == s.oid;
    Removed r = current ? remove_entry(*s.dataset, *v, entry, false)
                        : remove_file(*s.dataset, oid_name(s.oid).c_str(), false, [] {});
    if (r == Removed::kFreed) return true;
    if (r == Removed::kBusy) {
      ++busy;
      staged_.push_back(std::move(s));
    }
  }
  return false;
}

// One resident file that is neither staged nor pinned nor in use: by the dataset's policy, or from the end of the
// catalog backwards, going on where it stopped.
bool ObjectCache::evict_kept(Dataset& d) {
  std::shared_ptr<CatalogVersion> v = d.version();
  if (!v || d.cached_files == 0) return false;
  if (Sieve* sieve = sieve_of(d, *v)) return evict_sieved(d, *v, *sieve);
  uint32_t count = v->catalog().entry_count;
  int busy = 0;
  for (uint32_t n = 0; n < count && busy < kMaxBusy; ++n) {
    if (d.evict_cursor == 0 || d.evict_cursor > count) d.evict_cursor = count;
    uint32_t entry = --d.evict_cursor;
    if (v->state(entry) != kResident || d.pins->contains(entry) ||
        staged_sizes_.contains(v->catalog().entries[entry].oid))
      continue;
    Removed r = remove_entry(d, *v, entry, false);
    if (r == Removed::kFreed) return true;
    busy += r == Removed::kBusy;
  }
  return false;
}

bool ObjectCache::evict_sieved(Dataset& d, CatalogVersion& v, Sieve& sieve) {
  take_touches_locked(d);
  int busy = 0;
  for (uint32_t n = sieve.size(); n > 0 && busy < kMaxBusy; --n) {
    uint32_t entry = sieve.next();
    if (entry == Sieve::kNone) return false;
    if (d.pins->contains(entry)) continue;
    Removed r = remove_entry(d, v, entry, false);
    if (r == Removed::kFreed) return true;
    busy += r == Removed::kBusy;
  }
  return false;
}

// The dataset's queue, if that is its policy. It begins with what is there, in the order of the catalog.
Sieve* ObjectCache::sieve_of(Dataset& d, const CatalogVersion& v) {
  if (d.policy != Policy::kSieve) return d.sieve.reset(), nullptr;
  if (d.sieve) return &*d.sieve;
  d.sieve.emplace(v.catalog().entry_count);
  for (uint32_t i = 0; d.cached_files > 0 && i < v.catalog().entry_count; ++i)
    if (v.state(i) == kResident) d.sieve->add(i);
  return &*d.sieve;
}

bool ObjectCache::evict_any_kept(Dataset& first) {
  if (evict_kept(first)) return true;
  std::vector<std::shared_ptr<Dataset>> others;
  for (auto& d : datasets_)
    if (d.get() != &first && d->version()) others.push_back(d);
  std::sort(others.begin(), others.end(),
            [](auto& a, auto& b) { return a->last_use_ns.load() < b->last_use_ns.load(); });
  return std::any_of(others.begin(), others.end(), [this](auto& d) { return evict_kept(*d); });
}

bool ObjectCache::evict_staged_chunk(const Dataset* of) {
  const uint64_t bytes = chunks_ ? chunks_->evict_staged(of) : 0;
  chunk_bytes_ -= std::min(chunk_bytes_, bytes);
  return bytes > 0;
}

bool ObjectCache::evict_kept_chunks(uint64_t enough, const Dataset* of) {
  const uint64_t bytes = chunks_ ? chunks_->evict_kept(of, enough) : 0;
  chunk_bytes_ -= std::min(chunk_bytes_, bytes);
  return bytes > 0;
}

bool ObjectCache::evict_own(Dataset& d, uint64_t need) {
  return evict_oldest_staged(&d) || evict_kept(d) || evict_kept_chunks(need, &d) || evict_staged_chunk(&d);
}

// ---- as much as is needed
// -------------------------------------------------------------------------------------------- Each frees from the
// whole cache, or, where the quota is what stands in the way, from the dataset itself.

// For what is to stay.
bool ObjectCache::make_room(Dataset& d, uint64_t need) {
  while (!fits(d, need)) {
    if (!within_quota(d, need)
            ? evict_own(d, need)
            : evict_oldest_staged() || evict_any_kept(d) || evict_kept_chunks(need) || evict_staged_chunk())
      continue;
    return false;
  }
  return true;
}

bool ObjectCache::make_staging_room(Dataset& d, uint64_t need) {
  while (!fits(d, need)) {
    const Dataset* of = within_quota(d, need) ? nullptr : &d;
    bool share_is_full = (of ? d.staged_bytes : staged_bytes_) + need > share_of(of, limits_.staging);
    if (share_is_full && evict_oldest_staged(of)) continue;
    if ((of ? evict_kept(d) : evict_any_kept(d)) || evict_kept_chunks(need, of)) continue;
    if (!share_is_full && evict_oldest_staged(of)) continue;
    if (evict_staged_chunk(of)) continue;
    return false;
  }
  return true;
}

// As make_staging_room(), with the chunks' own share.
bool ObjectCache::make_chunk_room(Dataset& d, uint64_t need) {
  while (!fits(d, need)) {
    const Dataset* of = within_quota(d, need) ? nullptr : &d;
    const uint64_t staged = chunks_->staged_bytes(of);
    bool share_is_full = staged + need > share_of(of, chunks_->staging_share());
    if (share_is_full && evict_staged_chunk(of)) continue;
    if (share_is_full && staged > 0) return false;  // all of them came a moment ago
    if (evict_kept_chunks(need, &d) || (of ? evict_kept(d) : evict_any_kept(d)) || evict_kept_chunks(need, of))
      continue;
    if (evict_oldest_staged(of) || evict_staged_chunk(of)) continue;
    return false;
  }
  return true;
}

bool ObjectCache::free_anything(uint64_t bytes) {
  while (!fits(bytes)) {
    if (evict_oldest_staged() || evict_staged_chunk()) continue;
    uint64_t before = cached_bytes_;
    for (auto& d : datasets_)
      if (!d->version() && d->cached_files > 0) free_leftovers_of(*d, bytes);
    if (cached_bytes_ < before) continue;
    if (evict_kept_chunks(bytes)) continue;
    if (std::none_of(datasets_.begin(), datasets_.end(), [this](auto& d) { return evict_kept(*d); })) return false;
  }
  return true;
}

bool ObjectCache::make_table_room(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  return free_anything(bytes);
}

bool ObjectCache::make_space(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  auto all = [this] { return cached_bytes_ + chunk_bytes_; };
  uint64_t before = all(), want = on_disk(bytes);
  while (before - all() < want) {
    if (evict_oldest_staged() || evict_staged_chunk() || evict_kept_chunks(want - (before - all()))) continue;
    bool freed = std::any_of(datasets_.begin(), datasets_.end(), [this](auto& d) { return evict_kept(*d); });
    if (!freed) break;
  }
  return all() < before;
}

void ObjectCache::keep_limits() {
  uint64_t free = fs_space(dir_.fd()).free;
  if (free < limits_.reserve) make_space(limits_.reserve - free);
  std::vector<std::shared_ptr<Dataset>> all;
  {
    std::lock_guard lock(mutex_);
    all = datasets_;
  }
  for (auto& d : all)
    keep_quota(*d);
}

void ObjectCache::keep_quota(Dataset& d) {
  for (;;) {
    std::lock_guard lock(mutex_);  // one file at a time: programs that miss go on
    if (within_quota(d, 0) || !evict_own(d, held(d) - std::min(held(d), d.quota.load()))) return;
  }
}

// ---- admission
// -------------------------------------------------------------------------------------------------------

Result<ObjectCache::Kind> ObjectCache::find_room(const Object& o, uint64_t need, bool demand, bool chunk) {
  Dataset& d = *o.dataset;
  if (need + meter_.load() + kTableSlack > limits_.cache_size || need > limit_of(d)) return too_large(d, need);
  if (within_quota(d, need) && (fits(need) || free_leftovers(d, need))) return Kind::kKept;
  const bool pinned = is_pinned(d, o.path);
  if (!demand && !pinned) return make_error(ENOSPC, fmt::format("the cache is full ({} bytes)", limit_of(d)));
  const bool stays = pinned || (!chunk && d.policy == Policy::kSieve);
  if (stays ? make_room(d, need) : chunk ? make_chunk_room(d, need) : make_staging_room(d, need))
    return stays ? Kind::kKept : chunk ? Kind::kStagedChunk : Kind::kStaged;
  return make_error(
      demand ? EAGAIN : ENOSPC,
      fmt::format("no room for {} bytes: {} are the limit, and everything in the cache is in use or pinned", need,
                  limit_of(d)));
}

Result<Room> ObjectCache::admit(const Object& o, bool demand) {
  uint64_t need = on_disk(o.size);
  std::lock_guard lock(mutex_);
  Result<Kind> kind = find_room(o, need, demand, false);
  if (!kind) return kind.error();
  return reserve(*o.dataset, need, *kind, false);
}

Result<Room> ObjectCache::admit_chunk(const Object& o, uint64_t bytes, bool demand) {
  uint64_t need = on_disk(bytes);
  std::lock_guard lock(mutex_);
  Result<Kind> kind = find_room(o, need, demand, true);
  if (!kind) return kind.error();
  return reserve(*o.dataset, need, *kind, true);
}

// A whole file can be in use and stay; the chunks' share must remain for chunks, which can always go.
bool ObjectCache::whole_fits(const Dataset& d, uint64_t bytes) const {
  const uint64_t share = chunks_->staging_share();
  if (d.quota != 0 && d.cached_bytes + bytes + share_of(&d, share) > limit_of(d)) return false;
  return cached_bytes_ + zombie_bytes_ + bytes + meter_.load() + share <= limits_.cache_size;
}

bool ObjectCache::has_room_for_whole(const Dataset& d, uint64_t bytes) const {
  std::lock_guard lock(mutex_);
  return whole_fits(d, bytes);
}

// ---- policies
// --------------------------------------------------------------------------------------------------------

bool ObjectCache::is_pinned(const Dataset& d, const std::string& path) {
  if (d.pins->files() == 0) return false;
  std::shared_ptr<CatalogVersion> v = d.version();
  return v && d.pins->contains(v->find_file(path));
}

// What pins must leave: the staging shares, and room for files that are neither (a sixteenth).
uint64_t ObjectCache::beside_pins(uint64_t limit) const {
  return std::max({limits_.staging, chunks_ ? chunks_->staging_share() : 0, limit / 16});
}

// The most that may be pinned of a dataset.
uint64_t ObjectCache::room_for_pins(const Dataset& d) const {
  uint64_t taken = meter_.load() + kTableSlack + beside_pins(limits_.cache_size);
  for (auto& other : datasets_)
    if (other.get() != &d) taken += other->pins->bytes();
  uint64_t room = limits_.cache_size - std::min(limits_.cache_size, taken);
  if (d.quota != 0) room = std::min(room, limit_of(d) - limit_of(d) / 16);
  return room;
}

void ObjectCache::follow_pins(Dataset& d) {
  std::shared_ptr<CatalogVersion> v = d.version();
  if (uint64_t left_out = d.pins->follow(v.get(), room_for_pins(d)); left_out > 0)
    spdlog::error("{}: {} files below pinned paths do not fit and are not pinned; give a larger cache_size or quota",
                  d.label(), left_out);
  if (v) unstage_pinned(d, *v);
  if (chunks_) chunks_->follow_pins(d, v.get());
}

// What passed through and is pinned now, stays.
void ObjectCache::unstage_pinned(Dataset& d, const CatalogVersion& v) {
  for (const Staged& s : staged_)
    if (s.dataset.get() == &d && d.pins->contains(v.find_file(s.path))) forget_staged(d, s.oid);
}

void ObjectCache::configure(Dataset& d, std::optional<Policy> policy, std::optional<uint64_t> quota) {
  std::lock_guard lock(mutex_);
  if (policy) d.policy = *policy;
  if (!quota || *quota == d.quota) return;
  d.quota = *quota;
  follow_pins(d);
}

Status ObjectCache::pin(Dataset& d, const std::vector<std::string>& paths) {
  std::lock_guard lock(mutex_);
  std::shared_ptr<CatalogVersion> v = d.version();
  if (!v) return make_error(ESTALE, "the dataset is not mounted any more");
  const uint64_t bytes = d.pins->bytes() + d.pins->measure(*v, paths), most = room_for_pins(d);
  if (bytes > most)
    return make_error(
        ENOSPC,
        fmt::format("{} bytes of {} would be pinned, and {} can be; pin less, or give a larger cache_size or quota",
                    bytes, d.label(), most));
  if (Status s = d.pins->add(paths); !s) return s;
  follow_pins(d);
  return {};
}

Result<size_t> ObjectCache::unpin(Dataset& d, const std::string& path) {
  std::lock_guard lock(mutex_);
  Result<size_t> gone = d.pins->remove(path);
  if (gone && *gone > 0) follow_pins(d);
  return gone;
}

}  // namespace larder
