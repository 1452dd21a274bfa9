#include "cached/chunk_flights.h"

#include <fmt/format.h>
#include <sys/uio.h>

#include <algorithm>

#include "cached/body_hash.h"
#include "cached/files.h"
#include "cached/log.h"

namespace larder {

static constexpr size_t kPage = 4096;             // writes are of whole pages: what a mapping finds is complete
static constexpr size_t kLeastWrite = 64 * 1024;  // less is gathered first: a system call costs as much as copying 16 KiB
static constexpr size_t kMostAhead = 256;         // queued; more are forgotten, oldest first
static constexpr uint32_t kWholeAtOnce = 8;       // chunks of one object that is fetched whole
static constexpr int kFullRetries = 4;
static constexpr size_t kMostReadaheads = 4096;

// Both, one after the other, at an offset of the file.
static Status pwritev_all(int fd, std::span<const std::byte> first, std::span<const std::byte> second, uint64_t offset) {
  while (!first.empty() || !second.empty()) {
    struct iovec parts[2] = {{const_cast<std::byte*>(first.data()), first.size()}, {const_cast<std::byte*>(second.data()), second.size()}};
    ssize_t n = ::pwritev(fd, parts, 2, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return os_error("cannot write", n < 0 ? errno : ENOSPC);
    size_t of_first = std::min(first.size(), static_cast<size_t>(n));
    first = first.subspan(of_first);
    second = second.subspan(static_cast<size_t>(n) - of_first);
    offset += static_cast<uint64_t>(n);
  }
  return {};
}

struct ChunkFlights::Flight {
  LazyPtr file;
  uint32_t chunk = 0;
  Rank rank = Rank::kDemand;
  bool started = false;
  bool behind = false;  // counted in running_behind_
  std::vector<GroupPtr> groups;
  std::vector<WholePtr> wholes;
  std::optional<Clock::time_point> room_deadline;
  Room room;
  // Of the GET: what arrived and is not written yet, always at a page's beginning.
  std::vector<std::byte> buffer;
  uint64_t written = 0;
  BodyHash hash;

  Status take(std::span<const std::byte> bytes, ObjectCache& cache);
  Status write(std::span<const std::byte> more, ObjectCache& cache);
};

// Writes `buffer` and then the first bytes of `more`.
Status ChunkFlights::Flight::write(std::span<const std::byte> more, ObjectCache& cache) {
  if (buffer.size() + more.size() == 0) return {};
  auto once = [&] { return pwritev_all(file->data_fd(), buffer, more, file->chunk_offset(chunk) + written); };
  Status s = once();
  for (int i = 0; !s && s.error().code == ENOSPC && i < kFullRetries && cache.make_space(buffer.size() + more.size()); ++i) s = once();
  if (!s) return s;
  hash.update(buffer);
  hash.update(more);
  written += buffer.size() + more.size();
  room.wrote(buffer.size() + more.size());
  buffer.clear();
  return {};
}

// Whole pages go on from where they arrived; what is left of the last one waits for its rest.
Status ChunkFlights::Flight::take(std::span<const std::byte> bytes, ObjectCache& cache) {
  size_t have = buffer.size() + bytes.size();
  if (written + have > file->chunk_length(chunk))
    return make_error(EPROTO, fmt::format("the store sent more than the {} bytes of a chunk", file->chunk_length(chunk)));
  if (have >= kLeastWrite) {
    size_t now = have / kPage * kPage - buffer.size();
    if (Status s = write(bytes.first(now), cache); !s) return s;
    bytes = bytes.subspan(now);
  }
  buffer.insert(buffer.end(), bytes.begin(), bytes.end());
  return {};
}

ChunkFlights::ChunkFlights(LazyFiles& files, ObjectCache& cache, uint32_t connections, uint32_t wait_ms)
    : files_(files), cache_(cache), connections_(std::max(1u, connections)), wait_(wait_ms) {}

ChunkFlights::~ChunkFlights() = default;

uint32_t ChunkFlights::in_flight() const {
  std::lock_guard lock(mutex_);
  return running_;
}

// ---- asking ----------------------------------------------------------------------------------------------------------

// The flight of a chunk that is absent, joined or made; a higher rank moves it up.
ChunkFlights::FlightPtr ChunkFlights::flight_locked(const LazyPtr& file, uint32_t chunk, Rank rank) {
  auto it = flights_.find({file.get(), chunk});
  if (it != flights_.end()) {
    FlightPtr f = it->second;
    if (rank < f->rank && !f->started && f->rank == Rank::kAhead && std::erase(queues_[1], f) > 0) queues_[0].push_back(f);
    f->rank = std::min(f->rank, rank);
    return f;
  }
  auto f = std::make_shared<Flight>();
  f->file = file;
  f->chunk = chunk;
  f->rank = rank;
  flights_.emplace(Key{file.get(), chunk}, f);
  if (rank != Rank::kFill) queues_[static_cast<int>(rank)].push_back(f);
  return f;
}

Readahead& ChunkFlights::readahead_locked(const LazyPtr& file) {
  if (readahead_.size() > kMostReadaheads) std::erase_if(readahead_, [](auto& r) { return r.second.first.expired(); });
  auto& slot = readahead_[file->handle_inode()];
  slot.first = file;
  return slot.second;
}

uint32_t ChunkFlights::window_locked(const LazyPtr& file) {
  uint32_t streams = 0;
  Clock::time_point now = Clock::now();
  for (auto& [handle, slot] : readahead_) streams += slot.second.active(now);
  return files_.window(*file, streams);
}

void ChunkFlights::ahead_locked(const LazyPtr& file, const Readahead::Plan& plan) {
  for (uint32_t i = plan.first; i < plan.first + plan.count; ++i)
    if (!file->present(i)) flight_locked(file, i, Rank::kAhead);
  if (plan.count > 0) files_.set_mark(file, plan.mark, true);
  while (queues_[1].size() > kMostAhead && queues_[1].front()->wholes.empty()) {
    flights_.erase({queues_[1].front()->file.get(), queues_[1].front()->chunk});
    queues_[1].pop_front();
  }
}

uint64_t ChunkFlights::want(const LazyPtr& file, uint32_t first, uint32_t count, Done done) {
  auto group = std::make_shared<Group>();
  bool late = false;
  {
    std::lock_guard lock(mutex_);
    group->ticket = next_ticket_++;
    if (stopping_) group->status = make_error(ECANCELED, "larderd is ending");
    for (uint32_t i = first; !stopping_ && i < first + count; ++i) {
      if (file->present(i)) continue;
      FlightPtr f = flight_locked(file, i, Rank::kDemand);
      f->groups.push_back(group);
      late |= f->behind;
      ++group->left;
    }
    if (group->left > 0) {
      group->done = std::move(done);
      groups_.emplace(group->ticket, group);
    }
    ahead_locked(file, readahead_locked(file).asked(first, count, file->chunk_count(), window_locked(file), Clock::now()));
  }
  if (done) done(group->status);
  if (late) hurry(*file);
  pump();
  return group->ticket;
}

// It may lie in the store behind other background work. Chunks that are fetched ahead are wanted next.
void ChunkFlights::hurry(const LazyFile& file) {
  if (Result<std::shared_ptr<Store>> store = file.object.dataset->store()) (*store)->hurry(file.object.path);
}

void ChunkFlights::cancel(uint64_t ticket) {
  std::lock_guard lock(mutex_);
  auto it = groups_.find(ticket);
  if (it == groups_.end()) return;
  it->second->done = nullptr;  // its chunks come all the same: another reader is likely
  groups_.erase(it);
}

void ChunkFlights::passed(const LazyPtr& file, uint32_t chunk) {
  {
    std::lock_guard lock(mutex_);
    files_.set_mark(file, chunk, false);
    ahead_locked(file, readahead_locked(file).passed(chunk, file->chunk_count(), window_locked(file), Clock::now()));
  }
  pump();
}

void ChunkFlights::advise(const LazyPtr& file, uint32_t first, uint32_t count) {
  {
    std::lock_guard lock(mutex_);
    count = std::min(count, window_locked(file));
    for (uint32_t i = first; i < first + count && i < file->chunk_count(); ++i)
      if (!file->present(i)) flight_locked(file, i, Rank::kAhead);
  }
  pump();
}

void ChunkFlights::fetch_whole(const LazyPtr& file, bool demand, Done done) {
  uint64_t bytes = on_disk(file->map().size);
  const uint64_t most = cache_.limit_of(*file->object.dataset);
  if (bytes > most - std::min(most, files_.staging_share() / 4))
    return done(make_error(demand ? EFBIG : ENOSPC, fmt::format("the object has {} bytes and the cache {}; give a larger cache_size or quota", bytes, most)));
  auto w = std::make_shared<Whole>();
  w->file = file;
  w->demand = demand;
  w->done = std::move(done);
  {
    std::lock_guard lock(mutex_);
    wholes_.push_back(std::move(w));
  }
  pump();
}

// ---- starting --------------------------------------------------------------------------------------------------------

void ChunkFlights::pump() {
  for (;;) {
    FlightPtr f;
    std::vector<WholePtr> ended;
    {
      std::lock_guard lock(mutex_);
      f = pick_locked();
      if (f) {
        f->started = true;
        ++running_;
        f->behind = f->rank != Rank::kDemand;
        running_behind_ += f->behind;
      } else {
        for (auto it = wholes_.begin(); it != wholes_.end();) {
          bool at_end = (*it)->running == 0 && ((*it)->next >= (*it)->file->chunk_count() || !(*it)->status || stopping_);
          if (at_end) ended.push_back(*it);
          it = at_end ? wholes_.erase(it) : it + 1;
        }
      }
    }
    if (f) {
      files_.started(f->file);
      start(f);
      continue;
    }
    for (const WholePtr& w : ended) whole_ended(w);
    if (ended.empty()) return;
  }
}

ChunkFlights::FlightPtr ChunkFlights::pick_locked() {
  if (stopping_ || running_ >= connections_) return nullptr;
  for (int rank = 0; rank < 2; ++rank) {
    if (queues_[rank].empty() || (rank == 1 && running_behind_ >= std::max(1u, connections_ * 3 / 4))) continue;
    FlightPtr f = std::move(queues_[rank].front());
    queues_[rank].pop_front();
    return f;
  }
  return pick_whole_locked();
}

ChunkFlights::FlightPtr ChunkFlights::pick_whole_locked() {
  if (running_behind_ >= std::max(1u, connections_ * 3 / 4)) return nullptr;
  for (const WholePtr& w : wholes_) {
    while (w->status && w->running < kWholeAtOnce && w->next < w->file->chunk_count()) {
      uint32_t chunk = w->next++;
      if (w->file->present(chunk)) continue;
      bool mine = !flights_.contains({w->file.get(), chunk});
      FlightPtr f = flight_locked(w->file, chunk, Rank::kFill);
      f->wholes.push_back(w);
      ++w->running;
      if (mine) return f;
    }
  }
  return nullptr;
}

void ChunkFlights::start(const FlightPtr& f) {
  const Object& o = f->file->object;
  Result<std::shared_ptr<Store>> store = o.dataset->store();
  if (!store) return finish(f, store.error());
  bool demand;
  {
    std::lock_guard lock(mutex_);
    demand = f->rank != Rank::kFill || std::any_of(f->wholes.begin(), f->wholes.end(), [](auto& w) { return w->demand; });
  }
  Result<Room> room = cache_.admit_chunk(o, f->file->chunk_length(f->chunk), demand);
  if (!room) {
    if (!park(f, room.error())) finish(f, room.error());
    return;
  }
  f->room = std::move(*room);
  f->buffer.reserve(std::min<uint64_t>(kLeastWrite, f->file->chunk_length(f->chunk)));
  f->hash.reset();
  send_get(f, *store);
}

bool ChunkFlights::park(const FlightPtr& f, const Error& error) {
  std::lock_guard lock(mutex_);
  if (stopping_ || error.code != EAGAIN || f->rank == Rank::kAhead) return false;
  if (!f->room_deadline) f->room_deadline = Clock::now() + wait_;
  f->started = false;
  --running_;
  running_behind_ -= f->behind;
  parked_.push_back(f);
  files_.failed(f->file, f->chunk);
  return true;
}

void ChunkFlights::send_get(const FlightPtr& f, const std::shared_ptr<Store>& store) {
  GetRequest get;
  get.key = f->file->object.path;
  get.etag = f->file->object.etag;
  get.offset = f->file->chunk_offset(f->chunk);
  get.length = f->file->chunk_length(f->chunk);
  get.object_size = f->file->object.size;
  get.demand = !f->behind;
  auto held = std::make_shared<FlightPtr>(f);
  get.on_data = [this, held](std::span<const std::byte> bytes) -> Status {
    if (stopping_) return make_error(ECANCELED, "larderd is ending");
    return (*held)->take(bytes, cache_);
  };
  get.on_done = [this, held](Status status) {
    {
      std::lock_guard lock(mutex_);
      ++callbacks_;
    }
    FlightPtr mine = std::exchange(*held, nullptr);
    if (status) status = mine->write({}, cache_);
    if (status && mine->written != mine->file->chunk_length(mine->chunk))
      status = make_error(EIO, fmt::format("the store sent {} of {} bytes of a chunk", mine->written, mine->file->chunk_length(mine->chunk)));
    finish(mine, std::move(status));
    mine.reset();
    pump();
    std::lock_guard lock(mutex_);
    if (--callbacks_ == 0) idle_.notify_all();
  };
  store->get(std::move(get));
  std::unique_lock lock(mutex_);
  const bool late = f->behind && f->rank == Rank::kDemand;
  lock.unlock();  // whoever came before get() had nothing to hurry
  if (late) hurry(*f->file);
}

// ---- landing ---------------------------------------------------------------------------------------------------------

// Who waits for nothing more.
std::vector<ChunkFlights::GroupPtr> ChunkFlights::settle_locked(Flight& f, const Status& status) {
  std::vector<GroupPtr> ready;
  for (const GroupPtr& g : f.groups) {
    if (!status && g->status) g->status = status;
    if (--g->left > 0 && status) continue;
    if (groups_.erase(g->ticket) > 0) ready.push_back(g);
  }
  for (const WholePtr& w : f.wholes) {
    --w->running;
    if (!status && w->status) w->status = status;
  }
  return ready;
}

// A program began to wait for a chunk that was fetched ahead, just as there was no room for that: again, as demand.
bool ChunkFlights::become_demand_locked(const FlightPtr& f, const Status& status) {
  if (status || stopping_ || f->groups.empty()) return false;
  bool no_room = status.error().code == EAGAIN || (status.error().code == ENOSPC && f->behind);
  if (!no_room) return false;
  f->started = false;
  f->rank = Rank::kDemand;
  if (!f->room_deadline) f->room_deadline = Clock::now() + wait_;
  --running_;
  running_behind_ -= f->behind;
  parked_.push_back(f);
  return true;
}

void ChunkFlights::finish(const FlightPtr& f, Status status) {
  if (status) {
    uint64_t sum = f->hash.value();
    bool wanted = files_.landed(f->file, f->chunk, sum ? sum : 1, std::move(f->room));
    if (!wanted && f->file->dropped.load()) status = make_error(ESTALE, "the object changed while it was fetched");
  } else {
    files_.failed(f->file, f->chunk);
  }
  f->room = Room();
  f->buffer = {};
  std::vector<GroupPtr> ready;
  {
    std::lock_guard lock(mutex_);
    if (become_demand_locked(f, status)) return;
    flights_.erase({f->file.get(), f->chunk});
    ready = settle_locked(*f, status);
    --running_;
    running_behind_ -= f->behind;
    if (running_ == 0) idle_.notify_all();
  }
  int code = status ? 0 : status.error().code;
  if (code != 0 && code != ECANCELED && code != ENOSPC && code != EAGAIN)
    spdlog::warn("{}: chunk {} of {} was not fetched: {}", f->file->object.dataset->label(), f->chunk, shown(f->file->object.path), status.error().message);
  tell(f, status, ready);
}

// A changed object: the dataset is listed again, and the readers of this version get ESTALE.
void ChunkFlights::tell(const FlightPtr& f, const Status& status, const std::vector<GroupPtr>& ready) {
  bool stale = !status && (status.error().code == ESTALE || status.error().code == ENOENT);
  if (stale && stale_) stale_(f->file->object.dataset, [](const Status&) {});
  for (const GroupPtr& g : ready)
    if (g->done) g->done(stale ? make_error(ESTALE, status.error().message) : g->status);
}

void ChunkFlights::whole_ended(const WholePtr& w) {
  if (stopping_) return w->done(make_error(ECANCELED, "larderd is ending"));
  if (!w->status) return w->done(w->status);
  files_.when_whole(w->file, [this, w](const Status& s) {
    if (s || s.error().code != EAGAIN || w->file->dropped.load()) return w->done(s);
    // Some of it was evicted meanwhile: background work lets it be, a program that waits tries on.
    if (!w->demand) return w->done(make_error(ENOSPC, "the cache is full"));
    fetch_whole(w->file, w->demand, w->done);
  });
}

void ChunkFlights::tick() {
  std::vector<FlightPtr> expired;
  {
    std::lock_guard lock(mutex_);
    Clock::time_point now = Clock::now();
    while (!parked_.empty()) {
      FlightPtr f = std::move(parked_.back());
      parked_.pop_back();
      if (*f->room_deadline > now) {
        queues_[0].push_front(std::move(f));
        continue;
      }
      f->started = true;
      f->behind = false;
      ++running_;
      expired.push_back(std::move(f));
    }
  }
  for (const FlightPtr& f : expired) {
    files_.started(f->file);
    finish(f, make_error(EIO, fmt::format("no room came free in {} ms: cache_size is {}; give a larger cache_size", wait_.count(), cache_.limits().cache_size)));
  }
  pump();
}

bool ChunkFlights::stop(std::chrono::milliseconds limit) {
  std::vector<FlightPtr> queued;
  std::unique_lock lock(mutex_);
  stopping_ = true;
  for (auto* queue : {&queues_[0], &queues_[1], &parked_}) {
    queued.insert(queued.end(), queue->begin(), queue->end());
    queue->clear();
  }
  Status ending = make_error(ECANCELED, "larderd is ending");
  std::vector<std::pair<FlightPtr, std::vector<GroupPtr>>> told;
  for (const FlightPtr& f : queued) {
    flights_.erase({f->file.get(), f->chunk});
    told.emplace_back(f, settle_locked(*f, ending));
  }
  lock.unlock();
  for (auto& [f, ready] : told) tell(f, ending, ready);
  pump();
  lock.lock();
  return idle_.wait_for(lock, limit, [this] { return running_ == 0 && callbacks_ == 0; });
}

}  // namespace larder
