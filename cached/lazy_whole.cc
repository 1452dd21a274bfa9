// LazyFiles: chunks and their checksums, and how an object whose chunks are all there becomes an ordinary cache file.
#include <fmt/format.h>

#include "cached/body_hash.h"
#include "cached/files.h"
#include "cached/lazy_files.h"
#include "cached/log.h"

namespace larder {

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
    f = of_object_locked(dataset, oid);
    if (!f) return done;
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

}  // namespace larder
