#include "cached/lazy_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "cached/body_hash.h"
#include "cached/files.h"
#include "cached/log.h"
#include "cached/oid_name.h"

namespace larder {

// 4 MiB: a first byte after 4 ms at 1 GB/s, and few enough requests for 100 GB; smaller in caches that hold fewer than 32 of them.
static constexpr uint32_t kLargestShift = 22, kSmallestShift = 16;
static constexpr uint32_t kLeastChunks = 32;
static constexpr uint64_t kShare = 64 << 20;   // staging share of chunks: 16 of 4 MiB
static constexpr std::chrono::milliseconds kAMoment{5};
static constexpr uint32_t kLongestWindow = 16;  // chunks ahead of a sequential reader: 64 MiB keep 1 GB/s busy for 60 ms

static uint32_t shift_for(uint64_t cache_size) {
  uint32_t shift = static_cast<uint32_t>(std::bit_width(std::max<uint64_t>(cache_size / kLeastChunks, 1))) - 1;
  return std::clamp(shift, kSmallestShift, kLargestShift);
}

LazyFiles::LazyFiles(CacheDir& dir, InodeTableWriter& inodes, ObjectCache& cache, Meter& meter, uint64_t threshold)
    : dir_(dir), inodes_(inodes), cache_(cache), meter_(meter), threshold_(threshold),
      share_(std::max(cache.limits().staging, std::min(kShare, cache.limits().cache_size / 4))) {
  cache_.hold_chunks(this);
  completer_ = std::thread([this] { run_completer(); });
}

LazyFiles::~LazyFiles() {
  stop();
  cache_.hold_chunks(nullptr);
}

void LazyFiles::stop() {
  std::vector<WhenWhole> left;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    left.swap(waiting_);
    wake_.notify_all();
  }
  if (completer_.joinable()) completer_.join();
  for (WhenWhole& w : left) w.done(make_error(ECANCELED, "larderd is ending"));
}

// ---- finding and making ----------------------------------------------------------------------------------------------

static std::pair<uint64_t, std::pair<uint64_t, uint64_t>> key_of(uint64_t dataset, ObjectId oid) { return {dataset, {oid.hi, oid.lo}}; }

bool LazyFiles::wants(const Object& o) const {
  if (o.size == 0 || (o.size <= threshold_ && on_disk(o.size) <= cache_.limit_of(*o.dataset) / 2)) return false;
  Result<std::shared_ptr<Store>> store = o.dataset->store();
  return store && (*store)->can_range(o.etag);
}

LazyPtr LazyFiles::of_object_locked(const Object& o) const {
  auto it = by_object_.find(key_of(o.dataset->id(), o.oid));
  return it == by_object_.end() ? nullptr : it->second;
}

// An object that is just becoming whole is let be. One that is whole is RESIDENT, or was evicted since: which of the two is asked after
// it was seen to be whole, so that a completion in between cannot be taken for an eviction.
Result<LazyPtr> LazyFiles::open(const Object& o) {
  LazyPtr whole;
  for (;;) {
    Result<ObjectCache::Lazy> lazy = cache_.make_lazy(o);
    if (!lazy) return lazy.error();
    std::lock_guard lock(mutex_);
    LazyPtr f = of_object_locked(o);
    if (lazy->resident || (f && f->busy_completing)) return f;
    if (f && f->is_whole() && f != whole) {
      whole = f;
      continue;
    }
    if (!f || f->is_whole()) {
      Result<LazyPtr> made = f ? LazyFile::renew(*f, meter_) : LazyFile::create(o, shift_for(cache_.limit_of(*o.dataset)), dir_.tmp_fd(), inodes_, meter_);
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

Result<LazyPtr> LazyFiles::find(uint64_t handle_inode) {
  LazyPtr f;
  {
    std::lock_guard lock(mutex_);
    auto it = by_handle_.find(handle_inode);
    if (it != by_handle_.end()) f = it->second;
  }
  if (!f || f->object.path.empty()) return make_error(ESTALE, "the handle is of no object that is known");
  if (f->is_whole()) {  // evicted meanwhile?
    Result<LazyPtr> again = open(f->object);
    if (!again || *again) return again;
  }
  f->last_use_ns = wall_ns();
  return f;
}

uint32_t LazyFiles::window(const LazyFile& file, uint32_t streams) const {
  uint64_t chunk = uint64_t{1} << file.map().chunk_shift;
  streams = std::max(1u, streams);
  const Dataset& d = *file.object.dataset;
  if (cache_.has_room(d, uint64_t{streams} * kLongestWindow * chunk)) return kLongestWindow;
  uint64_t each = std::min(share_, cache_.limit_of(d) / 4) / 2 / chunk / streams;  // the other half: what is being read
  return static_cast<uint32_t>(std::clamp<uint64_t>(each, 1, kLongestWindow));
}

// ---- chunks ----------------------------------------------------------------------------------------------------------

void LazyFiles::started(const LazyPtr& f) {
  std::lock_guard lock(mutex_);
  ++f->in_flight;
}

bool LazyFiles::landed(const LazyPtr& f, uint32_t chunk, uint64_t sum, Room room) {
  bool staged = room.staged();
  uint64_t bytes = f->chunk_on_disk(chunk);
  cache_.chunk_landed(std::move(room));
  {
    std::lock_guard lock(mutex_);
    --f->in_flight;
    if (!f->dropped && !f->present(chunk)) {
      f->set_present(chunk, sum);
      ++f->present_chunks;
      f->present_bytes += bytes;
      if (staged && !f->pinned) {
        std::vector<bool>& bits = staged_chunks_[f.get()];
        bits.resize(f->chunk_count());
        bits[chunk] = true;
        staged_.push_back({f, chunk, std::chrono::steady_clock::now()});
        staged_bytes_ += bytes;
        f->object.dataset->staged_chunk_bytes += bytes;
      }
      if (f->present_chunks == f->chunk_count()) complete_soon_locked(f);
      return true;
    }
    if (f->dropped) f->punch(chunk);
    f->object.dataset->chunk_bytes -= bytes;
  }
  cache_.chunks_gone(bytes);
  return false;
}

void LazyFiles::failed(const LazyPtr& f, uint32_t chunk) {
  std::lock_guard lock(mutex_);
  --f->in_flight;
  if (!f->present(chunk) && !f->is_whole()) f->punch(chunk);
}

void LazyFiles::set_mark(const LazyPtr& f, uint32_t chunk, bool on) {
  if (chunk < f->chunk_count()) f->set_mark(chunk, on);
}

void LazyFiles::follow_pins(Dataset& dataset, const CatalogVersion* v) {
  std::lock_guard lock(mutex_);
  for (auto& [handle, f] : by_handle_) {
    if (f->object.dataset.get() != &dataset) continue;
    f->pinned = v && dataset.pins->contains(v->find_file(f->object.path));
    if (f->pinned) unstage_locked(*f);
  }
}

void LazyFiles::uncount_staged(LazyFile& f, uint32_t chunk) {
  staged_bytes_ -= f.chunk_on_disk(chunk);
  f.object.dataset->staged_chunk_bytes -= f.chunk_on_disk(chunk);
}

// What is there of it is not staged any more.
void LazyFiles::unstage_locked(LazyFile& f) {
  auto it = staged_chunks_.find(&f);
  if (it == staged_chunks_.end()) return;
  for (uint32_t i = 0; i < f.chunk_count(); ++i)
    if (it->second[i]) uncount_staged(f, i);
  staged_chunks_.erase(it);
  std::erase_if(staged_, [&](const Staged& s) { return s.file.get() == &f; });
}

// The chunk goes; returns what came free.
uint64_t LazyFiles::punch_locked(LazyFile& f, uint32_t chunk) {
  if (!f.present(chunk) || f.is_whole()) return 0;
  uint64_t bytes = f.chunk_on_disk(chunk);
  f.punch(chunk);
  --f.present_chunks;
  f.present_bytes -= bytes;
  f.object.dataset->chunk_bytes -= bytes;
  auto it = staged_chunks_.find(&f);
  if (it != staged_chunks_.end() && it->second[chunk]) {
    it->second[chunk] = false;
    uncount_staged(f, chunk);
  }
  return bytes;
}

// Whoever waited for a chunk gets a moment to read it: else many readers of few places push out each other's.
uint64_t LazyFiles::evict_staged(const Dataset* of) {
  std::lock_guard lock(mutex_);
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

// From the end backwards, going on where it stopped: beginnings stay, and a reader finds long runs.
uint64_t LazyFiles::evict_kept(const Dataset* of) {
  std::lock_guard lock(mutex_);
  std::vector<LazyFile*> files;
  for (auto& [handle, f] : by_handle_) {
    bool may = f->present_chunks > 0 && !f->is_whole() && !f->busy_completing && !f->pinned;
    if (may && (!of || f->object.dataset.get() == of)) files.push_back(f.get());
  }
  std::sort(files.begin(), files.end(), [](LazyFile* a, LazyFile* b) { return a->last_use_ns.load() < b->last_use_ns.load(); });
  for (LazyFile* f : files) {
    auto it = staged_chunks_.find(f);
    for (uint32_t n = 0; n < f->chunk_count(); ++n) {
      if (f->evict_cursor == 0 || f->evict_cursor > f->chunk_count()) f->evict_cursor = f->chunk_count();
      uint32_t chunk = --f->evict_cursor;
      bool staged = it != staged_chunks_.end() && it->second[chunk];
      if (!f->present(chunk) || staged) continue;
      return punch_locked(*f, chunk);
    }
  }
  return 0;
}

uint64_t LazyFiles::evict_object(const Dataset& dataset, ObjectId oid) {
  std::lock_guard lock(mutex_);
  auto it = by_object_.find(key_of(dataset.id(), oid));
  if (it == by_object_.end() || it->second->busy_completing) return 0;
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < it->second->chunk_count(); ++i) bytes += punch_locked(*it->second, i);
  return bytes;
}

ChunkHolder::Usage LazyFiles::usage_of(const Dataset& dataset) const {
  std::lock_guard lock(mutex_);
  Usage u;
  for (auto& [handle, f] : by_handle_) {
    if (f->object.dataset.get() != &dataset || f->is_whole() || f->present_chunks == 0) continue;
    u.bytes += f->present_bytes;
    u.files += 1;
    u.shares += static_cast<double>(f->present_chunks) / f->chunk_count();
  }
  return u;
}

static uint64_t hash_range(int fd, uint64_t offset, uint64_t length, std::vector<std::byte>& buffer, BodyHash* whole) {
  BodyHash hash;
  for (uint64_t at = 0; at < length;) {
    ssize_t n = ::pread(fd, buffer.data(), std::min<uint64_t>(buffer.size(), length - at), static_cast<off_t>(offset + at));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return 0;
    const auto piece = std::span(buffer).first(static_cast<size_t>(n));
    hash.update(piece);
    if (whole) whole->update(piece);
    at += static_cast<uint64_t>(n);
  }
  return hash.value();
}

ChunkHolder::Scrubbed LazyFiles::scrub(const Dataset& dataset, ObjectId oid) {
  Scrubbed done;
  LazyPtr f;
  {
    std::lock_guard lock(mutex_);
    auto it = by_object_.find(key_of(dataset.id(), oid));
    if (it == by_object_.end()) return done;
    f = it->second;
  }
  std::vector<std::byte> buffer(1 << 20);
  for (uint32_t i = 0; i < f->chunk_count(); ++i) {
    uint64_t gone = 0;
    {
      std::lock_guard lock(mutex_);  // not evicted, and not made whole, while it is read
      if (f->is_whole() || f->dropped || f->busy_completing) return done;
      if (!f->present(i) || f->sum(i) == 0) continue;  // taken over: its sum was the former daemon's
      done.bytes += f->chunk_length(i);
      if (hash_range(f->data_fd(), f->chunk_offset(i), f->chunk_length(i), buffer, nullptr) == f->sum(i)) continue;
      spdlog::error("{}: chunk {} of {} is corrupt in the cache; it is dropped", f->object.dataset->label(), i, shown(f->object.path));
      gone = punch_locked(*f, i);
    }
    cache_.chunks_gone(gone);
    ++done.bad;
  }
  return done;
}

// ---- becoming whole --------------------------------------------------------------------------------------------------

void LazyFiles::complete_soon_locked(const LazyPtr& f) {
  if (f->busy_completing || f->is_whole()) return;
  f->busy_completing = true;  // no chunk of it goes
  to_complete_.push_back(f);
  wake_.notify_all();
}

void LazyFiles::when_whole(const LazyPtr& f, std::function<void(const Status&)> done) {
  {
    std::lock_guard lock(mutex_);
    if (f->busy_completing) {
      waiting_.push_back({f, std::move(done)});
      return;
    }
  }
  done(f->is_whole() ? Status() : Status(make_error(EAGAIN, "the object is not complete")));
}

void LazyFiles::answer(LazyFile& f, const Status& status) {
  std::vector<std::function<void(const Status&)>> done;
  {
    std::lock_guard lock(mutex_);
    f.busy_completing = false;
    if (status) unstage_locked(f);
    for (WhenWhole& w : waiting_)
      if (w.file.get() == &f) done.push_back(std::move(w.done));
    std::erase_if(waiting_, [&](const WhenWhole& w) { return w.file.get() == &f; });
  }
  for (auto& d : done) d(status);
}

// The checksum of the whole; chunks that do not match their own are dropped (EIO).
Result<uint64_t> LazyFiles::sum_whole(LazyFile& f) {
  BodyHash whole;
  std::vector<std::byte> buffer(1 << 20);
  for (uint32_t i = 0; i < f.chunk_count(); ++i) {
    uint64_t have = hash_range(f.data_fd(), f.chunk_offset(i), f.chunk_length(i), buffer, &whole);
    if (have == 0 || (f.sum(i) != 0 && f.sum(i) != have)) {
      uint64_t gone;
      {
        std::lock_guard lock(mutex_);
        gone = punch_locked(f, i);
      }
      cache_.chunks_gone(gone);
      return make_error(EIO, fmt::format("chunk {} of {} is corrupt in the cache", i, shown(f.object.path)));
    }
  }
  return whole.value();
}

Status LazyFiles::complete(LazyFile& f) {
  if (!cache_.has_room_for_whole(*f.object.dataset, on_disk(f.map().size))) return make_error(ENOSPC, "the cache is too full for another whole file");
  Result<uint64_t> sum = sum_whole(f);
  if (!sum) return sum.error();
  uint64_t bytes;
  {
    std::lock_guard lock(mutex_);
    if (f.dropped) return make_error(ESTALE, "the object is gone");
    bytes = f.present_bytes;
  }
  return cache_.publish_whole(f, *sum, bytes);
}

void LazyFiles::run_completer() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (to_complete_.empty()) {
      wake_.wait(lock);
      continue;
    }
    LazyPtr f = std::move(to_complete_.front());
    to_complete_.pop_front();
    lock.unlock();
    Status s = complete(*f);
    if (!s && s.error().code != ESTALE && s.error().code != ENOSPC) spdlog::warn("{}: {} did not become an ordinary cache file: {}", f->object.dataset->label(), shown(f->object.path), s.error().message);
    answer(*f, s);
    lock.lock();
  }
}

// ---- datasets --------------------------------------------------------------------------------------------------------

uint64_t LazyFiles::take_over(const std::shared_ptr<Dataset>& dataset) {
  Result<Fd> folder = open_dir(dataset->folder_fd(), kLazyFolder);
  if (!folder) return 0;
  std::vector<ObjectId> oids;
  std::vector<std::string> names;
  (void)for_each_name(folder->get(), [&](const char* name) {
    ObjectId oid;
    names.emplace_back(name);
    if (parse_oid(name, &oid)) oids.push_back(oid);
  });
  std::lock_guard lock(mutex_);
  uint64_t bytes = 0;
  std::vector<std::string> known;
  for (ObjectId oid : oids) {
    Result<LazyPtr> f = LazyFile::take_over(dataset, oid, inodes_, meter_);
    if (!f) continue;
    bytes += (*f)->present_bytes;
    dataset->chunk_bytes += (*f)->present_bytes;
    known.insert(known.end(), {oid_name(oid), fmt::format("{:016x}", (*f)->handle_inode()), fmt::format("{:016x}.map", (*f)->handle_inode())});
    by_handle_[(*f)->handle_inode()] = *f;
    by_object_[key_of(dataset->id(), oid)] = std::move(*f);
  }
  for (const std::string& name : names) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    if (::unlinkat(folder->get(), name.c_str(), 0) != 0) ::unlinkat(folder->get(), name.c_str(), AT_REMOVEDIR);
  }
  return bytes;
}

uint64_t LazyFiles::adopt(Dataset& dataset, CatalogVersion& v) {
  std::lock_guard lock(mutex_);
  std::vector<LazyPtr> mine;
  for (auto& [handle, f] : by_handle_)
    if (f->object.dataset.get() == &dataset) mine.push_back(f);
  if (mine.empty()) return 0;
  std::unordered_map<ObjectId, uint32_t, OidHash> entries;
  for (uint32_t i = 0; i < v.catalog().entry_count; ++i)
    if (v.catalog().entries[i].is_file() && v.catalog().entries[i].size > 0) entries.emplace(v.catalog().entries[i].oid, i);
  uint64_t gone = 0;
  for (const LazyPtr& f : mine) {
    auto it = entries.find(f->object.oid);
    if (it == entries.end() || v.catalog().entries[it->second].size != f->map().size) {
      gone += drop_locked(f);
      continue;
    }
    f->object = object_at(f->object.dataset, v, it->second);
    if (v.state(it->second) != kResident && !f->is_whole()) v.set_state(it->second, kLazy);
    if (f->present_chunks == f->chunk_count()) complete_soon_locked(f);
  }
  return gone;
}

uint64_t LazyFiles::drop_locked(const LazyPtr& f) {
  uint64_t bytes = 0;
  f->dropped = true;
  for (uint32_t i = 0; i < f->chunk_count(); ++i) bytes += punch_locked(*f, i);
  f->remove_files();
  unstage_locked(*f);
  by_object_.erase(key_of(f->object.dataset->id(), f->object.oid));
  by_handle_.erase(f->handle_inode());
  return bytes;
}

uint64_t LazyFiles::drop(const Dataset& dataset, ObjectId oid) {
  std::lock_guard lock(mutex_);
  auto it = by_object_.find(key_of(dataset.id(), oid));
  if (it == by_object_.end()) return 0;
  LazyPtr f = it->second;
  return drop_locked(f);
}

uint64_t LazyFiles::forget(const Dataset& dataset) {
  std::lock_guard lock(mutex_);
  uint64_t bytes = 0;
  std::vector<LazyPtr> mine;
  for (auto& [handle, f] : by_handle_)
    if (f->object.dataset.get() == &dataset) mine.push_back(f);
  for (const LazyPtr& f : mine) {
    if (!f->is_whole()) {
      bytes += f->present_bytes;
      f->object.dataset->chunk_bytes -= f->present_bytes;
    }
    unstage_locked(*f);
    f->dropped = true;
    by_object_.erase(key_of(dataset.id(), f->object.oid));
    by_handle_.erase(f->handle_inode());
  }
  return bytes;
}

}  // namespace larder
