// FileStore: requests that wait for a thread, the threads, and what becomes of requests whose thread hangs.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "cached/store/api/errors.h"
#include "cached/store/file/file.h"

namespace larder {

static constexpr size_t kReadBytes = 1 << 20;  // larger gains nothing: the copy is what costs

void FileStore::get(GetRequest request) {
  auto reading = std::make_shared<Reading>();
  reading->request = std::move(request);
  bool wakes_watch = false;
  {
    MutexLock lock(mutex_);
    if (readings_.empty()) moved_ = reading->moved;  // nothing has moved, because nothing was asked for
    (reading->request.demand ? demand_ : fill_).push_back(std::move(reading));
    wakes_watch = std::exchange(idle_, false);
  }
  ready_.notify_one();
  if (wakes_watch) watched_.notify_one();
}

void FileStore::hurry(std::string_view key) {
  MutexLock lock(mutex_);
  auto rest = std::stable_partition(fill_.begin(), fill_.end(), [&](auto& r) { return r->request.key != key; });
  std::move(rest, fill_.end(), std::back_inserter(demand_));
  fill_.erase(rest, fill_.end());
}

void FileStore::work() {
  std::vector<std::byte> buffer(kReadBytes);
  MutexLock lock(mutex_);
  while (true) {
    while (!stop_ && demand_.empty() && fill_.empty())
      ready_.wait(mutex_);
    if (stop_) return;
    auto& queue = demand_.empty() ? fill_ : demand_;
    ReadingPtr reading = std::move(queue.front());
    queue.pop_front();
    reading->moved = Clock::now();
    const auto place = readings_.insert(readings_.end(), reading);
    lock.unlock();
    reading_.fetch_add(1, std::memory_order_relaxed);
    Status status = read_object(*reading, buffer);
    reading_.fetch_sub(1, std::memory_order_relaxed);
    lock.lock();
    readings_.erase(place);
    moved_ = Clock::now();
    const bool ended = std::exchange(reading->over, true);
    lock.unlock();
    if (!ended) finish(reading->request, std::move(status));
    reading.reset();
    lock.lock();
  }
}

// ---- a file server that hangs

void FileStore::watch() {
  MutexLock lock(mutex_);
  while (!stop_) {
    idle_ = readings_.empty() && demand_.empty() && fill_.empty();
    if (idle_)
      watched_.wait(mutex_);
    else
      watched_.wait_for(mutex_, std::min<Clock::duration>(stall_timeout_ / 4, std::chrono::seconds(1)));
    const std::vector<ReadingPtr> stalled = take_stalled();
    if (stalled.empty()) continue;
    lock.unlock();
    for (const ReadingPtr& r : stalled)
      finish(r->request, make_error(EIO, fmt::format("{}: nothing could be read for {} ms (stall_timeout_ms)",
                                                     printable(name(r->request.key), 1200), stall_timeout_.count())));
    lock.lock();
  }
}

// Those whose threads hang, and, if no thread gets anywhere, those that wait for one. They are over.
std::vector<FileStore::ReadingPtr> FileStore::take_stalled() {
  const Clock::time_point before = Clock::now() - stall_timeout_;
  std::vector<ReadingPtr> out;
  for (const ReadingPtr& r : readings_)
    if (!r->over && !r->delivering && r->moved < before) out.push_back(r);
  for (auto* queue : {&demand_, &fill_}) {
    while (moved_ < before && !queue->empty() && queue->front()->moved < before) {
      out.push_back(std::move(queue->front()));
      queue->pop_front();
    }
  }
  for (const ReadingPtr& r : out)
    r->over = true;
  return out;
}

Status FileStore::deliver(Reading& r, std::span<const std::byte> bytes) {
  MutexLock lock(mutex_);
  if (r.over) return make_error(ECANCELED, "it was given up");
  r.delivering = true;
  lock.unlock();
  Status status = r.request.on_data(bytes);
  lock.lock();
  r.delivering = false;
  moved_ = r.moved = Clock::now();
  return status;
}

void FileStore::finish(GetRequest& request, Status status) {
  if (!status.ok()) errors_.fetch_add(1, std::memory_order_relaxed);
  request.on_data = nullptr;
  request.on_done(std::move(status));
}

}  // namespace larder
