#include "cached/cache/chunk_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "cached/base/files.h"
#include "cached/base/log.h"
#include "cached/catalog/oid_name.h"
#include "larder/names.h"

namespace larder {

// A chunk is what a random reader fetches for a few bytes: 256 KiB. Larger for objects whose map would take more than
// 16 MiB or 1/64 of the cache at four bytes a chunk.
static constexpr uint32_t kChunkShift = 18, kSmallestShift = 16, kLargestShift = 26;
static constexpr uint64_t kLargestMap = 16 << 20;
// Where no chunk is large enough for that, a map may take more: how large an object is, the store alone says. One map
// has at most this share of what its dataset may have, and all of a dataset together that one.
static constexpr uint64_t kMapShare = 16, kMapsShare = 4;
// A map of up to so much (of an object of 4 GiB) does not wait for room: its chunks can go at any time.
static constexpr uint64_t kSmallMap = 64 << 10;
// A GET is of up to 4 MiB, so that 16 of them keep a link busy and a chunk at its end does not come late: smaller in
// caches that hold fewer than 32 of them.
static constexpr uint64_t kLargestGet = 4 << 20;
static constexpr uint64_t kMostEvicted = 64 << 20;
static constexpr uint64_t kShare = 64 << 20;  // staging share of chunks
static constexpr std::chrono::milliseconds kAMoment{5};
static constexpr uint64_t kLongestWindow = 64 << 20;  // ahead of a sequential reader: they keep 1 GB/s busy for 60 ms

static uint64_t get_bytes(uint64_t cache_size) {
  return std::clamp<uint64_t>(std::bit_floor(cache_size / 32), uint64_t{1} << kSmallestShift, kLargestGet);
}

static uint32_t shift_for(uint64_t object_size, uint64_t cache_size) {
  uint32_t shift = std::min<uint32_t>(kChunkShift, static_cast<uint32_t>(std::countr_zero(get_bytes(cache_size))));
  const uint64_t most = std::min(kLargestMap, cache_size / 64);
  while ((object_size >> shift) * 4 > most && shift < kLargestShift && uint64_t{32} << shift <= cache_size)
    ++shift;
  return shift;
}

ChunkStore::ChunkStore(CacheDir& dir, InodeTableWriter& inodes, ObjectCache& cache, Meter& meter, uint64_t threshold)
    : dir_(dir),
      inodes_(inodes),
      cache_(cache),
      budget_(cache.budget()),
      meter_(meter),
      threshold_(threshold),
      share_(std::max(cache.limits().staging, std::min(kShare, cache.limits().cache_size / 4))) {
  cache_.hold_chunks(this);
  completer_ = std::thread([this] { run_completer(); });
}

ChunkStore::~ChunkStore() {
  stop();
  cache_.hold_chunks(nullptr);
}

void ChunkStore::stop() {
  std::vector<WhenWhole> left;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    left.swap(waiting_);
    wake_.notify_all();
  }
  if (completer_.joinable()) completer_.join();
  for (WhenWhole& w : left)
    w.done(make_error(ECANCELED, "larderd is ending"));
}

// ---- finding and making -------------------------------------------------------------------------

static std::pair<uint64_t, std::pair<uint64_t, uint64_t>> key_of(uint64_t dataset, ObjectId oid) {
  return {dataset, {oid.hi, oid.lo}};
}

// Room for the map of an object that has none, as for data.
Status ChunkStore::admit_map(const Object& o) {
  const uint64_t limit = cache_.limit_of(*o.dataset);
  const uint64_t bytes = LazyFile::map_bytes(o.size, shift_for(o.size, limit));
  uint64_t all = bytes;
  {
    MutexLock lock(mutex_);
    const LazyPtr f = of_object_locked(*o.dataset, o.oid);
    if (f && !f->is_whole()) return {};
    for (auto& [handle, each] : by_handle_)
      if (each->object.dataset == o.dataset) all += each->map_on_disk();
  }
  if (bytes > limit / kMapShare)
    return make_error(EFBIG,
                      fmt::format("the store says that it has {} bytes: the table of its chunks alone takes {} of "
                                  "the {} that there are; give a larger cache_size or quota",
                                  o.size, bytes, limit));
  if (all > limit / kMapsShare || (!cache_.make_table_room(bytes) && bytes > kSmallMap))
    return make_error(ENOSPC,
                      fmt::format("no room for the table of its chunks, of {} bytes; give a larger cache_size", bytes));
  return {};
}

bool ChunkStore::wants(const Object& o) const {
  if (o.size == 0 || (o.size <= threshold_ && on_disk(o.size) <= cache_.limit_of(*o.dataset) / 2)) return false;
  Result<std::shared_ptr<Store>> store = o.dataset->store();
  return store && (*store)->can_range(o.etag);
}

LazyPtr ChunkStore::of_object_locked(const Dataset& dataset, ObjectId oid) const {
  auto it = by_object_.find(key_of(dataset.id(), oid));
  return it == by_object_.end() ? nullptr : it->second;
}

// An object that is just becoming whole is let be. One that is whole is RESIDENT, or was evicted since: which of the
// two is asked after it was seen to be whole, so that a completion in between cannot be taken for an eviction.
Result<LazyPtr> ChunkStore::open(const Object& o) {
  if (Status s = admit_map(o); !s) return s.error();
  LazyPtr whole;
  for (;;) {
    Result<ObjectCache::Lazy> lazy = cache_.make_lazy(o);
    if (!lazy) return lazy.error();
    MutexLock lock(mutex_);
    LazyPtr f = of_object_locked(*o.dataset, o.oid);
    if (lazy->resident || (f && f->busy_completing)) return f;
    if (f && f->is_whole() && f != whole) {
      whole = f;
      continue;
    }
    if (!f || f->is_whole()) {
      Result<LazyPtr> made = f ? LazyFile::renew(*f, meter_)
                               : LazyFile::create(o, lazy->accounts, shift_for(o.size, cache_.limit_of(*o.dataset)),
                                                  dir_.tmp_fd(), inodes_, meter_);
      if (!made) return made;
      f = *made;
      by_handle_[f->handle_inode()] = f;
      by_object_[key_of(o.dataset->id(), o.oid)] = f;
    }
    f->pinned = lazy->pinned;
    f->last_use_ns = wall_ns();
    return f;
  }
}

Result<LazyPtr> ChunkStore::find(uint64_t handle_inode) {
  LazyPtr f;
  {
    MutexLock lock(mutex_);
    auto it = by_handle_.find(handle_inode);
    if (it != by_handle_.end() && !it->second->object.path.empty()) f = it->second;
  }
  if (!f) return make_error(ESTALE, "the handle is of no object that is known");
  if (f->is_whole()) {  // evicted meanwhile?
    Result<LazyPtr> again = open(f->object);
    if (!again || *again) return again;
  }
  f->last_use_ns = wall_ns();
  return f;
}

uint64_t ChunkStore::window(const LazyFile& file, uint32_t streams) const {
  streams = std::max(1u, streams);
  const Dataset& d = *file.object.dataset;
  const uint64_t longest = std::min(kLongestWindow, 16 * get_bytes(cache_.limit_of(d)));
  if (cache_.has_room(d, uint64_t{streams} * longest)) return longest;
  return std::min(longest,
                  std::min(share_, cache_.limit_of(d) / 4) / 2 / streams);  // the other half: what is being read
}

uint32_t ChunkStore::joined(const LazyFile& file) const {
  return static_cast<uint32_t>(
      std::max<uint64_t>(1, get_bytes(cache_.limit_of(*file.object.dataset)) >> file.map().chunk_shift));
}

// ---- chunks -------------------------------------------------------------------------------------

bool ChunkStore::landed(const LazyPtr& f, uint32_t chunk, uint64_t sum, Room room) {
  return cache_.land_chunk(f, chunk, sum, std::move(room));
}

bool ChunkStore::land(const LazyPtr& f, uint32_t chunk, uint64_t sum, bool staged) {
  MutexLock lock(mutex_);
  if (f->dropped) {
    f->punch(chunk);
    return false;
  }
  if (f->present(chunk)) return false;
  const uint64_t bytes = f->chunk_on_disk(chunk);
  f->set_present(chunk, sum);
  ++f->present_chunks;
  f->present_bytes += bytes;
  budget_.chunks_came(*f->accounts, bytes);
  if (staged && !f->pinned) {
    std::vector<bool>& bits = staged_chunks_[f.get()];
    bits.resize(f->chunk_count());
    bits[chunk] = true;
    ++f->staged_chunks;
    staged_.push_back({f, chunk, std::chrono::steady_clock::now()});
    budget_.chunks_staged(*f->accounts, bytes);
  }
  if (f->present_chunks == f->chunk_count()) complete_soon_locked(f);
  return true;
}

void ChunkStore::failed(const LazyPtr& f, uint32_t chunk) {
  MutexLock lock(mutex_);
  if (!f->present(chunk) && !f->is_whole()) f->punch(chunk);
}

void ChunkStore::set_mark(const LazyPtr& f, uint32_t chunk, bool on) {
  if (chunk < f->chunk_count()) f->set_mark(chunk, on);
}

void ChunkStore::follow_pins(const Dataset& dataset, const CatalogVersion* v, const Pins& pins) {
  MutexLock lock(mutex_);
  for (auto& [handle, f] : by_handle_) {
    if (f->object.dataset.get() != &dataset) continue;
    f->pinned = v && pins.contains(v->find_file(f->object.path));
    if (f->pinned) unstage_locked(*f);
  }
}

// What is there of it is not staged any more.
void ChunkStore::unstage_locked(LazyFile& f) {
  auto it = staged_chunks_.find(&f);
  if (it == staged_chunks_.end()) return;
  for (uint32_t i = 0; i < f.chunk_count(); ++i)
    if (it->second[i]) budget_.chunks_unstaged(*f.accounts, f.chunk_on_disk(i));
  staged_chunks_.erase(it);
  f.staged_chunks = 0;
  std::erase_if(staged_, [&](const Staged& s) { return s.file.get() == &f; });
}

// Chunks go that are all there; returns what came free. Never one that is not: it may be arriving.
uint64_t ChunkStore::punch_locked(LazyFile& f, uint32_t first, uint32_t count) {
  if (!f.present(first) || f.is_whole()) return 0;
  auto it = staged_chunks_.find(&f);
  uint64_t bytes = 0;
  for (uint32_t i = first; i < first + count; ++i) {
    bytes += f.chunk_on_disk(i);
    if (it == staged_chunks_.end() || !it->second[i]) continue;
    it->second[i] = false;
    --f.staged_chunks;
    budget_.chunks_unstaged(*f.accounts, f.chunk_on_disk(i));
  }
  f.punch(first, count);
  f.present_chunks -= count;
  f.present_bytes -= bytes;
  budget_.chunks_went(*f.accounts, bytes);
  return bytes;
}

uint64_t ChunkStore::punch_all_locked(LazyFile& f) {
  uint64_t bytes = 0;
  for (uint32_t i = 0; f.present_chunks > 0 && i < f.chunk_count(); ++i) {
    const uint32_t run = f.run_of_present(i);
    if (run > 0) bytes += punch_locked(f, i, run);
    i += run;
  }
  return bytes;
}

// Whoever waited for a chunk gets a moment to read it: else many readers of few places push out each other's.
uint64_t ChunkStore::evict_staged(const Dataset* of) {
  MutexLock lock(mutex_);
  auto now = std::chrono::steady_clock::now();
  for (auto it = staged_.begin(); it != staged_.end() && now - it->landed >= kAMoment;) {
    LazyFile& f = *it->file;
    auto chunks = staged_chunks_.find(&f);
    const bool there = chunks != staged_chunks_.end() && chunks->second[it->chunk];  // else it went another way
    if (there && (f.busy_completing || (of && f.object.dataset.get() != of))) {
      ++it;
      continue;
    }
    const uint64_t bytes = there ? punch_locked(f, it->chunk) : 0;
    it = staged_.erase(it);
    if (bytes > 0) return bytes;
  }
  return 0;
}

// Of those that have chunks which are kept.
LazyFile* ChunkStore::least_used_locked(const Dataset* of) const {
  LazyFile* least = nullptr;
  for (auto& [handle, f] : by_handle_) {
    const bool may = f->present_chunks > f->staged_chunks && !f->is_whole() && !f->busy_completing && !f->pinned &&
                     (!of || f->object.dataset.get() == of);
    if (may && (!least || f->last_use_ns.load() < least->last_use_ns.load())) least = f.get();
  }
  return least;
}

// At most kMostEvicted: locks are held. From the end backwards, going on where it stopped: beginnings stay, and a
// reader finds long runs.
uint64_t ChunkStore::evict_kept(const Dataset* of, uint64_t enough) {
  MutexLock lock(mutex_);
  LazyFile* f = least_used_locked(of);
  if (!f) return 0;
  auto staged = staged_chunks_.find(f);
  auto kept = [&](uint32_t chunk) {
    mutex_.assert_held();
    return f->present(chunk) && (staged == staged_chunks_.end() || !staged->second[chunk]);
  };
  uint32_t& at = f->evict_cursor;  // all from here on were looked at
  uint32_t looked = 0;
  do {
    if (looked++ == f->chunk_count()) return 0;
    if (at == 0 || at > f->chunk_count()) at = f->chunk_count();
    --at;
  } while (!kept(at));
  uint32_t count = 1;
  enough = std::min(enough, kMostEvicted);
  for (uint64_t bytes = f->chunk_on_disk(at); bytes < enough && at > 0 && kept(at - 1); ++count)
    bytes += f->chunk_on_disk(--at);
  return punch_locked(*f, at, count);
}

uint64_t ChunkStore::evict_object(const Dataset& dataset, ObjectId oid) {
  MutexLock lock(mutex_);
  LazyPtr f = of_object_locked(dataset, oid);
  return f && !f->busy_completing ? punch_all_locked(*f) : 0;
}

ChunkHolder::Usage ChunkStore::usage_of(const Dataset& dataset) const {
  MutexLock lock(mutex_);
  Usage u;
  for (auto& [handle, f] : by_handle_) {
    if (f->object.dataset.get() != &dataset || f->is_whole() || f->present_chunks == 0) continue;
    u.bytes += f->present_bytes;
    u.files += 1;
    u.shares += static_cast<double>(f->present_chunks) / f->chunk_count();
  }
  return u;
}

// ---- datasets -----------------------------------------------------------------------------------

void ChunkStore::take_over(const std::shared_ptr<Dataset>& dataset, const std::shared_ptr<Accounts>& accounts) {
  Result<Fd> folder = open_dir(dataset->folder_fd(), kLazyFolder);
  if (!folder) return;
  std::vector<ObjectId> oids;
  std::vector<uint64_t> data;
  std::vector<std::string> names;
  (void)for_each_name(folder->get(), [&](const char* name) {
    ObjectId oid;
    names.emplace_back(name);
    if (parse_oid(name, &oid)) oids.push_back(oid);
  });
  (void)for_each_name(dataset->chunks_fd(), [&](const char* name) {
    uint64_t handle = 0;
    if (parse_hex(name, 16, &handle)) data.push_back(handle);
  });
  MutexLock lock(mutex_);
  std::vector<std::string> known;
  for (ObjectId oid : oids) {
    Result<LazyPtr> f = LazyFile::take_over(dataset, accounts, oid, inodes_, meter_);
    if (!f) continue;
    budget_.chunks_came(*accounts, (*f)->present_bytes);
    known.insert(known.end(), {oid_name(oid), std::string(chunk_map_name((*f)->handle_inode()))});
    if (!(*f)->is_whole()) std::erase(data, (*f)->handle_inode());
    by_handle_[(*f)->handle_inode()] = *f;
    by_object_[key_of(dataset->id(), oid)] = std::move(*f);
  }
  for (const uint64_t handle : data)
    ::unlinkat(dataset->chunks_fd(), chunk_data_name(handle).c_str(), 0);
  for (const std::string& name : names) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    if (::unlinkat(folder->get(), name.c_str(), 0) != 0) ::unlinkat(folder->get(), name.c_str(), AT_REMOVEDIR);
  }
}

void ChunkStore::adopt(Dataset& dataset, CatalogVersion& v) {
  MutexLock lock(mutex_);
  std::vector<LazyPtr> mine;
  for (auto& [handle, f] : by_handle_)
    if (f->object.dataset.get() == &dataset) mine.push_back(f);
  if (mine.empty()) return;
  std::unordered_map<ObjectId, uint32_t, OidHash> entries;
  for (uint32_t i = 0; i < v.catalog().entry_count; ++i)
    if (v.catalog().entries[i].is_file() && v.catalog().entries[i].size > 0)
      entries.emplace(v.catalog().entries[i].oid, i);
  for (const LazyPtr& f : mine) {
    auto it = entries.find(f->object.oid);
    if (it == entries.end() || v.catalog().entries[it->second].size != f->map().size) {
      drop_locked(f);
      continue;
    }
    if (f->object.path.empty()) f->object = object_at(f->object.dataset, v, it->second);  // once: others read it
    if (v.state(it->second) != kResident && !f->is_whole()) v.set_state(it->second, kLazy);
    if (f->present_chunks == f->chunk_count()) complete_soon_locked(f);
  }
}

void ChunkStore::drop_locked(const LazyPtr& f) {
  f->dropped = true;
  punch_all_locked(*f);
  f->remove_files();
  unstage_locked(*f);
  by_object_.erase(key_of(f->object.dataset->id(), f->object.oid));
  by_handle_.erase(f->handle_inode());
}

void ChunkStore::drop(const Dataset& dataset, ObjectId oid) {
  MutexLock lock(mutex_);
  if (LazyPtr f = of_object_locked(dataset, oid)) drop_locked(f);
}

void ChunkStore::forget(const Dataset& dataset) {
  MutexLock lock(mutex_);
  std::vector<LazyPtr> mine;
  for (auto& [handle, f] : by_handle_)
    if (f->object.dataset.get() == &dataset) mine.push_back(f);
  for (const LazyPtr& f : mine) {
    if (!f->is_whole()) budget_.chunks_went(*f->accounts, f->present_bytes);
    unstage_locked(*f);
    f->dropped = true;
    by_object_.erase(key_of(dataset.id(), f->object.oid));
    by_handle_.erase(f->handle_inode());
  }
}

void ChunkStore::recount(const std::vector<std::shared_ptr<Accounts>>& datasets) {
  MutexLock lock(mutex_);
  std::vector<Budget::FoundChunks> found;
  found.reserve(datasets.size());
  for (auto& accounts : datasets)
    found.push_back({accounts});
  for (auto& each : by_handle_) {
    const LazyFile& f = *each.second;
    auto of = std::find_if(found.begin(), found.end(), [&](auto& one) { return one.of == f.accounts; });
    if (of == found.end()) continue;
    if (!f.is_whole()) of->chunks += f.present_bytes;
    auto staged = staged_chunks_.find(&f);
    for (uint32_t i = 0; staged != staged_chunks_.end() && i < f.chunk_count(); ++i)
      if (staged->second[i]) of->staged += f.chunk_on_disk(i);
  }
  budget_.replace_chunks(found);
}

}  // namespace larder
