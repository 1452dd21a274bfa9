// ChunkStore: chunks and their checksums, and how an object whose chunks are all there becomes an ordinary cache file.
#include <fmt/format.h>

#include <chrono>
#include <future>

#include "cached/base/files.h"
#include "cached/base/log.h"
#include "cached/cache/body_hash.h"
#include "cached/cache/chunk_store.h"

namespace larder {

// How often an object may be fetched whose chunks together are not what its store says.
static constexpr int kMostWholes = 3;

// Our checksum of a whole object, and its store's.
namespace {
struct WholeSums {
  BodyHash ours;
  std::optional<CrcSum> told;
  uint64_t crc = 0;
  void update(std::span<const std::byte> bytes) {
    ours.update(bytes);
    if (told) crc = crc_update(told->kind, crc, bytes);
  }
  bool right() const { return !told || told->value == crc; }
};
}  // namespace

static uint64_t hash_range(int fd, uint64_t offset, uint64_t length, std::vector<std::byte>& buffer, WholeSums* whole) {
  BodyHash hash;
  for (uint64_t at = 0; at < length;) {
    ssize_t n =
        ::pread(fd, buffer.data(), std::min<uint64_t>(buffer.size(), length - at), static_cast<off_t>(offset + at));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return 0;
    const auto piece = std::span(buffer).first(static_cast<size_t>(n));
    hash.update(piece);
    if (whole) whole->update(piece);
    at += static_cast<uint64_t>(n);
  }
  return hash.value();
}

ChunkHolder::Scrubbed ChunkStore::scrub(const Dataset& dataset, ObjectId oid) {
  Scrubbed done;
  LazyPtr f;
  {
    MutexLock lock(mutex_);
    f = of_object_locked(dataset, oid);
    if (!f) return done;
  }
  std::vector<std::byte> buffer(1 << 20);
  for (uint32_t i = 0; i < f->chunk_count(); ++i) {
    MutexLock lock(mutex_);  // not evicted, and not made whole, while it is read
    if (f->is_whole() || f->dropped || f->busy_completing) return done;
    if (!f->present(i) || f->sum(i) == 0) continue;  // taken over: its sum was the former daemon's
    done.bytes += f->chunk_length(i);
    if (hash_range(f->data_fd(), f->chunk_offset(i), f->chunk_length(i), buffer, nullptr) == f->sum(i)) continue;
    spdlog::error("{}: chunk {} of {} is corrupt in the cache; it is dropped", f->object.dataset->label(), i,
                  shown(f->object.path));
    punch_locked(*f, i);
    ++done.bad;
  }
  return done;
}

// ---- becoming whole -----------------------------------------------------------------------------

void ChunkStore::complete_soon_locked(const LazyPtr& f) {
  if (f->busy_completing || f->is_whole()) return;
  f->busy_completing = true;  // no chunk of it goes
  to_complete_.push_back(f);
  wake_.notify_all();
}

void ChunkStore::when_whole(const LazyPtr& f, std::function<void(const Status&)> done) {
  {
    MutexLock lock(mutex_);
    if (f->busy_completing) {
      waiting_.push_back({f, std::move(done)});
      return;
    }
  }
  done(f->is_whole() ? Status() : Status(make_error(EAGAIN, "the object is not complete")));
}

void ChunkStore::answer(LazyFile& f, const Status& status) {
  std::vector<std::function<void(const Status&)>> done;
  {
    MutexLock lock(mutex_);
    f.busy_completing = false;
    if (status) unstage_locked(f);
    for (WhenWhole& w : waiting_)
      if (w.file.get() == &f) done.push_back(std::move(w.done));
    std::erase_if(waiting_, [&](const WhenWhole& w) { return w.file.get() == &f; });
  }
  for (auto& d : done)
    d(status);
}

// What the object's store says. Nothing before a catalog is there that has its name.
Result<std::optional<CrcSum>> ChunkStore::crc_of(const Object& o) {
  Result<std::shared_ptr<Store>> store = o.dataset->store();
  if (!store || o.path.empty()) return std::optional<CrcSum>();
  auto crc = std::make_shared<std::promise<std::optional<CrcSum>>>();
  (*store)->crc_of({o.path, o.size, o.mtime_ns, o.etag}, [crc](std::optional<CrcSum> told) { crc->set_value(told); });
  auto answer = crc->get_future();
  while (answer.wait_for(std::chrono::milliseconds(50)) != std::future_status::ready) {
    MutexLock lock(mutex_);
    if (stopping_) return make_error(ECANCELED, "larderd is ending");
  }
  return answer.get();
}

// The chunks are each what came, and together not what the store says: they are fetched again.
Error ChunkStore::refuse_whole(LazyFile& f) {
  MutexLock lock(mutex_);
  const bool again = ++f.wrong_wholes < kMostWholes;
  if (again) punch_all_locked(f);
  return make_error(EIO, fmt::format("its bytes do not match the store's checksum; {}",
                                     again ? "they are dropped" : "they stay unverified"));
}

// The checksum of the whole; chunks that do not match their own are dropped (EIO).
Result<uint64_t> ChunkStore::sum_whole(LazyFile& f) {
  Result<std::optional<CrcSum>> told = crc_of(f.object);
  if (!told) return told.error();
  WholeSums whole;
  whole.told = *told;
  std::vector<std::byte> buffer(1 << 20);
  for (uint32_t i = 0; i < f.chunk_count(); ++i) {
    uint64_t have = hash_range(f.data_fd(), f.chunk_offset(i), f.chunk_length(i), buffer, &whole);
    if (have == 0 || (f.sum(i) != 0 && f.sum(i) != have)) {
      MutexLock lock(mutex_);
      punch_locked(f, i);
      return make_error(EIO, fmt::format("chunk {} of {} is corrupt in the cache", i, shown(f.object.path)));
    }
  }
  if (!whole.right()) return refuse_whole(f);
  return whole.ours.value();
}

Status ChunkStore::complete(LazyFile& f) {
  if (!cache_.has_room_for_whole(*f.object.dataset, on_disk(f.map().size)))
    return make_error(ENOSPC, "the cache is too full for another whole file");
  Result<uint64_t> sum = sum_whole(f);
  if (!sum) return sum.error();
  uint64_t bytes;
  {
    MutexLock lock(mutex_);
    if (f.dropped) return make_error(ESTALE, "the object is gone");
    bytes = f.present_bytes;
  }
  return cache_.publish_whole(f, *sum, bytes);
}

void ChunkStore::run_completer() {
  MutexLock lock(mutex_);
  while (!stopping_) {
    if (to_complete_.empty()) {
      wake_.wait(mutex_);
      continue;
    }
    LazyPtr f = std::move(to_complete_.front());
    to_complete_.pop_front();
    lock.unlock();
    Status s = complete(*f);
    if (!s && s.error().code != ESTALE && s.error().code != ENOSPC && s.error().code != ECANCELED)
      spdlog::warn("{}: {} did not become an ordinary cache file: {}", f->object.dataset->label(),
                   shown(f->object.path), s.error().message);
    answer(*f, s);
    lock.lock();
  }
}

}  // namespace larder
