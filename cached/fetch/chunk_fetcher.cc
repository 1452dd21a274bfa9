// ChunkFetcher: who wants which chunks, and in what order they go. What becomes of them: chunk_landing.cc.
#include "cached/fetch/chunk_fetcher.h"

#include <fmt/format.h>

#include <algorithm>

#include "cached/base/files.h"
#include "cached/fetch/chunk_fetcher_inside.h"

namespace larder {

static constexpr size_t kMostAhead = 4096;   // queued chunks; more are forgotten, oldest first
static constexpr uint32_t kWholeAtOnce = 8;  // GETs of one object that is fetched whole
static constexpr size_t kMostReadaheads = 4096;
static constexpr std::chrono::milliseconds kRecount{10};

ChunkFetcher::ChunkFetcher(ChunkStore& files, ObjectCache& cache, uint32_t connections, uint32_t wait_ms)
    : files_(files), cache_(cache), connections_(std::max(1u, connections)), wait_(wait_ms) {}

ChunkFetcher::~ChunkFetcher() = default;

uint32_t ChunkFetcher::in_flight() const {
  std::lock_guard lock(mutex_);
  return running_;
}

// ---- asking
// ----------------------------------------------------------------------------------------------------------

void ChunkFetcher::enqueue_locked(const FlightPtr& f, Rank rank, int64_t place) {
  f->queue = rank;
  f->place = place;
  queues_[rank].emplace(place, f);
}

bool ChunkFetcher::is_queued(const Flight& f) {
  return f.queue != Flight::kNone;
}

void ChunkFetcher::dequeue_locked(Flight& f) {
  if (!is_queued(f)) return;
  const int queue = std::exchange(f.queue, Flight::kNone);
  queues_[queue].erase(f.place);
}

ChunkFetcher::FlightPtr ChunkFetcher::find_locked(const LazyPtr& file, uint32_t chunk) const {
  auto it = flights_.find({file.get(), chunk});
  return it == flights_.end() ? nullptr : it->second;
}

// The flight of a chunk that is absent, joined or made; a higher rank moves it up.
ChunkFetcher::FlightPtr ChunkFetcher::flight_locked(const LazyPtr& file, uint32_t chunk, Rank rank) {
  FlightPtr f = find_locked(file, chunk);
  if (!f) {
    f = std::make_shared<Flight>();
    f->file = file;
    f->chunk = chunk;
    f->rank = rank;
    flights_.emplace(Key{file.get(), chunk}, f);
    if (rank != kFill) enqueue_locked(f, rank, ++last_place_);
  } else if (rank == kDemand && f->queue == kAhead) {
    dequeue_locked(*f);
    enqueue_locked(f, kDemand, ++last_place_);
  }
  f->rank = std::min(f->rank, rank);
  return f;
}

Readahead& ChunkFetcher::readahead_locked(const LazyPtr& file) {
  if (readahead_.size() > kMostReadaheads) std::erase_if(readahead_, [](auto& r) { return r.second.first.expired(); });
  auto& slot = readahead_[file->handle_inode()];
  slot.first = file;
  return slot.second;
}

// Counted now and then: there may be thousands of files.
uint32_t ChunkFetcher::streams_locked(Clock::time_point now) {
  if (now - streams_counted_ < kRecount) return streams_;
  streams_counted_ = now;
  streams_ = 0;
  for (auto& [handle, slot] : readahead_)
    streams_ += slot.second.active(now);
  return streams_;
}

Readahead::Limits ChunkFetcher::limits_locked(const LazyPtr& file) {
  return {file->chunk_count(), 1u << file->map().chunk_shift, files_.joined(*file),
          files_.window(*file, streams_locked(Clock::now()))};
}

void ChunkFetcher::ahead_locked(const LazyPtr& file, uint32_t first, uint32_t count) {
  for (uint32_t i = first; i < first + count && i < file->chunk_count(); ++i)
    if (!file->present(i)) flight_locked(file, i, kAhead);
  while (queues_[kAhead].size() > kMostAhead) {
    FlightPtr oldest = queues_[kAhead].begin()->second;
    dequeue_locked(*oldest);
    flights_.erase({oldest->file.get(), oldest->chunk});
  }
}

void ChunkFetcher::follow_locked(const LazyPtr& file, const Readahead::Plan& plan) {
  ahead_locked(file, plan.first, plan.count);
  if (plan.count > 0) files_.set_mark(file, plan.mark, true);
}

uint64_t ChunkFetcher::want(const LazyPtr& file, uint32_t first, uint32_t count, uint32_t waits, Done done) {
  auto group = std::make_shared<Group>();
  bool late = false;
  {
    std::lock_guard lock(mutex_);
    group->ticket = next_ticket_++;
    if (stopping_) group->status = make_error(ECANCELED, "larderd is ending");
    const bool coming = file->present(first) || find_locked(file, first);
    for (uint32_t i = first; !stopping_ && i < first + waits; ++i) {
      if (file->present(i)) continue;
      FlightPtr f = flight_locked(file, i, kDemand);
      f->groups.push_back(group);
      late |= f->get && f->get->behind;
      ++group->left;
    }
    if (group->left > 0) {
      group->done = std::move(done);
      groups_.emplace(group->ticket, group);
    }
    const Readahead::Limits limits = limits_locked(file);
    const uint32_t window = std::max(waits, static_cast<uint32_t>(limits.longest / limits.chunk_bytes));
    if (!stopping_) ahead_locked(file, first + waits, std::min(count, window) - waits);
    if (!stopping_) follow_locked(file, readahead_locked(file).asked(first, count, coming, limits, Clock::now()));
  }
  if (done) done(group->status);
  if (late) hurry(*file);
  pump();
  return group->ticket;
}

// It may lie in the store behind other background work. Chunks that are fetched ahead are wanted next.
void ChunkFetcher::hurry(const LazyFile& file) {
  if (Result<std::shared_ptr<Store>> store = file.object.dataset->store()) (*store)->hurry(file.object.path);
}

void ChunkFetcher::cancel(uint64_t ticket) {
  std::lock_guard lock(mutex_);
  auto it = groups_.find(ticket);
  if (it == groups_.end()) return;
  it->second->done = nullptr;  // its chunks come all the same: another reader is likely
  groups_.erase(it);
}

void ChunkFetcher::passed(const LazyPtr& file, uint32_t chunk) {
  {
    std::lock_guard lock(mutex_);
    files_.set_mark(file, chunk, false);
    if (!stopping_) follow_locked(file, readahead_locked(file).passed(chunk, limits_locked(file), Clock::now()));
  }
  pump();
}

void ChunkFetcher::advise(const LazyPtr& file, uint32_t first, uint32_t count) {
  {
    std::lock_guard lock(mutex_);
    const Readahead::Limits limits = limits_locked(file);
    const uint64_t window = std::max<uint64_t>(1, limits.longest / limits.chunk_bytes);
    if (!stopping_) ahead_locked(file, first, static_cast<uint32_t>(std::min<uint64_t>(count, window)));
  }
  pump();
}

void ChunkFetcher::fetch_whole(const LazyPtr& file, bool demand, Done done) {
  uint64_t bytes = on_disk(file->map().size);
  const uint64_t most = cache_.limit_of(*file->object.dataset);
  if (bytes > most - std::min(most, files_.staging_share() / 4))
    return done(make_error(
        demand ? EFBIG : ENOSPC,
        fmt::format("the object has {} bytes and the cache {}; give a larger cache_size or quota", bytes, most)));
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

// ---- picking
// ---------------------------------------------------------------------------------------------------------

void ChunkFetcher::pump() {
  for (;;) {
    GetPtr get;
    {
      std::lock_guard lock(mutex_);
      get = pick_locked();
      if (get) {
        ++running_;
        get->behind = std::all_of(get->flights.begin(), get->flights.end(), [](auto& f) { return f->rank != kDemand; });
        running_behind_ += get->behind;
      }
    }
    if (!get) break;
    start(get);
  }
  end_wholes();
}

bool ChunkFetcher::may_run_behind_locked() const {
  return running_behind_ < std::max(1u, connections_ * 3 / 4);
}

// The chunk whose turn it is, and those behind it that are wanted as well.
ChunkFetcher::GetPtr ChunkFetcher::pick_locked() {
  if (stopping_ || running_ >= connections_) return nullptr;
  for (Rank rank : {kDemand, kAhead}) {
    if (queues_[rank].empty() || (rank == kAhead && !may_run_behind_locked())) continue;
    auto get = std::make_shared<Get>(queues_[rank].begin()->second->file);
    FlightPtr f = queues_[rank].begin()->second;
    const uint32_t end = end_of_get(f->chunk, files_.joined(*f->file), f->file->chunk_count());
    for (uint32_t next = f->chunk + 1;; ++next) {
      dequeue_locked(*f);
      get->add(f, get);
      f = next < end ? find_locked(get->file, next) : nullptr;
      if (!f || !is_queued(*f)) return get;
    }
  }
  return pick_whole_locked();
}

ChunkFetcher::GetPtr ChunkFetcher::pick_whole_locked() {
  if (!may_run_behind_locked()) return nullptr;
  for (const WholePtr& w : wholes_) {
    const uint32_t most = kWholeAtOnce * files_.joined(*w->file);
    while (w->status && w->running < most && w->next < w->file->chunk_count()) {
      const uint32_t chunk = w->next++;
      if (w->file->present(chunk)) continue;
      FlightPtr f = flight_locked(w->file, chunk, kFill);
      f->wholes.push_back(w);
      ++w->running;
      if (f->get || f->parked) continue;
      auto get = std::make_shared<Get>(w->file);
      dequeue_locked(*f);
      get->add(f, get);
      add_to_whole_locked(w, get);
      return get;
    }
  }
  return nullptr;
}

// The chunks behind a GET's first, as far as they are absent and nobody fetches them.
void ChunkFetcher::add_to_whole_locked(const WholePtr& w, const GetPtr& get) {
  const uint32_t end = end_of_get(get->first(), files_.joined(*w->file), w->file->chunk_count());
  for (; w->next < end && !w->file->present(w->next); ++w->next) {
    FlightPtr f = find_locked(w->file, w->next);
    if (f && !is_queued(*f)) return;
    f = flight_locked(w->file, w->next, kFill);
    f->wholes.push_back(w);
    ++w->running;
    dequeue_locked(*f);
    get->add(f, get);
  }
}

void ChunkFetcher::end_wholes() {
  std::vector<WholePtr> ended;
  {
    std::lock_guard lock(mutex_);
    for (auto it = wholes_.begin(); it != wholes_.end();) {
      const bool at_end =
          (*it)->running == 0 && ((*it)->next >= (*it)->file->chunk_count() || !(*it)->status || stopping_);
      if (at_end) ended.push_back(*it);
      it = at_end ? wholes_.erase(it) : it + 1;
    }
  }
  for (const WholePtr& w : ended)
    whole_ended(w);
  if (!ended.empty()) pump();
}

void ChunkFetcher::whole_ended(const WholePtr& w) {
  if (stopping_) return w->done(make_error(ECANCELED, "larderd is ending"));
  if (!w->status) return w->done(w->status);
  files_.when_whole(w->file, [this, w](const Status& s) {
    if (s || s.error().code != EAGAIN || w->file->dropped.load()) return w->done(s);
    // Some of it was evicted meanwhile: background work lets it be, a program that waits tries on.
    if (!w->demand) return w->done(make_error(ENOSPC, "the cache is full"));
    fetch_whole(w->file, w->demand, w->done);
  });
}

void ChunkFetcher::tick() {
  std::vector<FlightPtr> expired;
  {
    std::lock_guard lock(mutex_);
    Clock::time_point now = Clock::now();
    for (; !parked_.empty(); parked_.pop_back()) {
      const FlightPtr& f = parked_.back();
      f->parked = false;
      if (*f->room_deadline > now)
        enqueue_locked(f, kDemand, --first_place_);
      else
        expired.push_back(f);
    }
  }
  const Status late =
      make_error(EIO, fmt::format("no room came free in {} ms: cache_size is {}; give a larger cache_size",
                                  wait_.count(), cache_.limits().cache_size));
  for (const FlightPtr& f : expired)
    log_failure(*f->file, f->chunk, 1, late.error());
  settle(expired, late, false);
  pump();
}

bool ChunkFetcher::stop(std::chrono::milliseconds limit) {
  std::vector<FlightPtr> queued;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    queued.swap(parked_);
    for (Queue& queue : queues_) {
      for (auto& [place, f] : queue)
        queued.push_back(f);
      queue.clear();
    }
    for (const FlightPtr& f : queued)
      f->queue = Flight::kNone;
  }
  settle(queued, make_error(ECANCELED, "larderd is ending"), false);
  pump();
  std::unique_lock lock(mutex_);
  return idle_.wait_for(lock, limit, [this] { return running_ == 0 && callbacks_ == 0; });
}

}  // namespace larder
