// ChunkFetcher: who wants which chunks, and in what order they go. What becomes of them: chunk_landing.cc.
#include "cached/fetch/chunk_fetcher.h"

#include <fmt/format.h>

#include <algorithm>

#include "cached/base/files.h"

namespace larder {

static constexpr size_t kMostAhead = 4096;   // queued chunks of a dataset; more are forgotten, oldest first
static constexpr uint32_t kWholeAtOnce = 8;  // GETs of one object that is fetched whole
static constexpr size_t kMostReadaheads = 4096;
static constexpr std::chrono::milliseconds kRecount{10};

ChunkFetcher::ChunkFetcher(ChunkStore& files, ObjectCache& cache, uint32_t connections, uint32_t wait_ms)
    : FetchScheduler(
          cache,
          {.all = std::max(1u, connections), .background = std::max(1u, connections * 3 / 4), .demand_is_apart = false},
          wait_ms),
      files_(files) {}

// A GET that begins with `chunk` goes no farther.
static uint32_t end_of_get(uint32_t chunk, uint32_t joined, uint32_t chunks) {
  return static_cast<uint32_t>(std::min<uint64_t>(chunks, (uint64_t{chunk} / joined + 1) * joined));
}

// ---- asking

ChunkFetcher::FlightPtr ChunkFetcher::find_locked(const LazyPtr& file, uint32_t chunk) const {
  auto it = flights_.find({file.get(), chunk});
  return it == flights_.end() ? nullptr : it->second;
}

// The flight of a chunk that is absent: the one there is, or a new one of this rank.
ChunkFetcher::FlightPtr ChunkFetcher::flight_locked(const LazyPtr& file, uint32_t chunk, Rank rank) {
  FlightPtr f = find_locked(file, chunk);
  if (!f) {
    f = std::make_shared<ChunkFlight>();
    f->file = file;
    f->chunk = chunk;
    f->rank = rank;
    flights_.emplace(Key{file.get(), chunk}, f);
    if (rank != Rank::kFill) enqueue_locked(f, rank);
  }
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
    if (!file->present(i)) flight_locked(file, i, Rank::kAhead);
  const uint64_t dataset = file->object.dataset->id();
  while (queued_locked(dataset, Rank::kAhead) > kMostAhead) {
    const FlightPtr oldest = first_locked(dataset, Rank::kAhead);
    dequeue_locked(*oldest);
    flights_.erase({oldest->file.get(), oldest->chunk});
  }
}

void ChunkFetcher::follow_locked(const LazyPtr& file, const Readahead::Plan& plan) {
  ahead_locked(file, plan.first, plan.count);
  if (plan.count > 0) files_.set_mark(file, plan.mark, true);
}

// Those that are absent are awaited. True: some of them are under way as background work.
bool ChunkFetcher::wait_locked(const GroupPtr& group, const LazyPtr& file, uint32_t first, uint32_t count) {
  bool is_late = false;
  for (uint32_t i = first; i < first + count; ++i) {
    if (file->present(i)) continue;
    FlightPtr f = flight_locked(file, i, Rank::kDemand);
    f->groups.push_back(group);
    is_late |= demand_locked(f);
    ++group->left;
  }
  return is_late;
}

uint64_t ChunkFetcher::want(const LazyPtr& file, uint32_t first, uint32_t count, uint32_t waits, Done done) {
  auto group = std::make_shared<ChunkGroup>();
  group->ticket = next_ticket_++;
  bool is_late = false, all_there = false;
  {
    MutexLock lock(mutex_);
    if (stopping_) {
      lock.unlock();
      done(make_error(ECANCELED, "larderd is ending"));
      return group->ticket;
    }
    const bool coming = file->present(first) || find_locked(file, first);
    is_late = wait_locked(group, file, first, waits);
    all_there = group->left == 0;
    if (!all_there) {
      group->done = done;
      groups_.emplace(group->ticket, group);
    }
    const Readahead::Limits limits = limits_locked(file);
    const uint32_t window = std::max(waits, static_cast<uint32_t>(limits.longest / limits.chunk_bytes));
    ahead_locked(file, first + waits, std::min(count, window) - waits);
    follow_locked(file, readahead_locked(file).asked(first, count, coming, limits, Clock::now()));
  }
  if (all_there) done({});
  if (is_late) hurry(file->object);  // chunks that are fetched ahead are wanted next
  pump();
  return group->ticket;
}

void ChunkFetcher::cancel(uint64_t ticket) {
  MutexLock lock(mutex_);
  auto it = groups_.find(ticket);
  if (it == groups_.end()) return;
  it->second->done = nullptr;
  groups_.erase(it);
}

void ChunkFetcher::passed(const LazyPtr& file, uint32_t chunk) {
  {
    MutexLock lock(mutex_);
    files_.set_mark(file, chunk, false);
    if (!stopping_) follow_locked(file, readahead_locked(file).passed(chunk, limits_locked(file), Clock::now()));
  }
  pump();
}

void ChunkFetcher::advise(const LazyPtr& file, uint32_t first, uint32_t count) {
  {
    MutexLock lock(mutex_);
    const Readahead::Limits limits = limits_locked(file);
    const uint64_t window = std::max<uint64_t>(1, limits.longest / limits.chunk_bytes);
    if (!stopping_) ahead_locked(file, first, static_cast<uint32_t>(std::min<uint64_t>(count, window)));
  }
  pump();
}

Status ChunkFetcher::could_be_whole(const Object& object, bool demand) const {
  const uint64_t bytes = on_disk(object.size), most = cache_.limit_of(*object.dataset);
  if (bytes <= most - std::min(most, files_.staging_share() / 4)) return {};
  return make_error(
      demand ? EFBIG : ENOSPC,
      fmt::format("the object has {} bytes and the cache {}; give a larger cache_size or quota", bytes, most));
}

void ChunkFetcher::fetch_whole(const LazyPtr& file, bool demand, Done done) {
  if (Status s = could_be_whole(file->object, demand); !s) return done(s);
  auto w = std::make_shared<WholeFetch>();
  w->file = file;
  w->demand = demand;
  w->done = std::move(done);
  {
    MutexLock lock(mutex_);
    wholes_.push_back(std::move(w));
  }
  pump();
}

// ---- what goes into one GET

// A chunk, and those behind it that are wanted as well.
ChunkFetcher::GetPtr ChunkFetcher::begin_locked(FlightPtr first) {
  auto get = std::make_shared<ChunkGet>(first->file);
  const uint32_t end = end_of_get(first->chunk, files_.joined(*first->file), first->file->chunk_count());
  add_locked(get, first);
  for (uint32_t next = first->chunk + 1; next < end; ++next) {
    const FlightPtr f = find_locked(get->file, next);
    if (!f || !f->queue) break;
    add_locked(get, f);
  }
  return get;
}

ChunkFetcher::GetPtr ChunkFetcher::begin_fill_locked() {
  for (const WholePtr& w : wholes_) {
    if (!may_fill_locked(w->file->object.dataset->id())) continue;
    const uint32_t most = kWholeAtOnce * files_.joined(*w->file);
    while (w->status && w->running < most && w->next < w->file->chunk_count()) {
      const uint32_t chunk = w->next++;
      if (w->file->present(chunk)) continue;
      const FlightPtr f = flight_locked(w->file, chunk, Rank::kFill);
      f->wholes.push_back(w);
      ++w->running;
      if (f->get || f->parked) continue;
      auto get = std::make_shared<ChunkGet>(w->file);
      add_locked(get, f);
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
    if (f && !f->queue) return;
    f = flight_locked(w->file, w->next, Rank::kFill);
    f->wholes.push_back(w);
    ++w->running;
    add_locked(get, f);
  }
}

// Finds those of which nothing is left to fetch.
void ChunkFetcher::end_wholes() {
  std::vector<WholePtr> ended;
  {
    MutexLock lock(mutex_);
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
    // Some of it was evicted meanwhile: background work stops, for a program that waits the rest is fetched again.
    if (!w->demand) return w->done(make_error(ENOSPC, "the cache is full"));
    fetch_whole(w->file, w->demand, w->done);
  });
}

}  // namespace larder
