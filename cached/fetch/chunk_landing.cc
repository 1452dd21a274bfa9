// ChunkFetcher: from a GET that may start to the chunks that it brought, and who is told.
#include <fmt/format.h>

#include <algorithm>

#include "cached/base/files.h"
#include "cached/base/log.h"
#include "cached/fetch/chunk_fetcher_inside.h"

namespace larder {

void log_failure(const LazyFile& file, uint32_t first, size_t count, const Error& error) {
  for (int silent : {ECANCELED, ENOSPC, EAGAIN})
    if (error.code == silent) return;
  const std::string which =
      count == 1 ? fmt::format("chunk {}", first) : fmt::format("chunks {} to {}", first, first + count - 1);
  spdlog::warn("{}: {} of {} was not fetched: {}", file.object.dataset->label(), which, shown(file.object.path),
               error.message);
}

// ---- starting
// --------------------------------------------------------------------------------------------------------

void ChunkFetcher::start(const GetPtr& get) {
  Result<std::shared_ptr<Store>> store = get->file->object.dataset->store();
  if (!store) return ended(get, store.error());
  Error refused;
  std::vector<Room> rooms = admit(*get, &refused);
  const std::vector<FlightPtr> without(get->flights.begin() + static_cast<ptrdiff_t>(rooms.size()), get->flights.end());
  get->flights.resize(rooms.size());
  refuse(without, refused, get->behind);
  if (get->flights.empty()) return free_slot(*get);
  auto land = [this, raw = get.get()](uint32_t chunk, uint64_t sum, Room room) {
    return landed(*raw, chunk, sum, std::move(room));
  };
  get->body.emplace(get->file, get->first(), std::move(rooms), cache_, std::move(land));
  send_get(get, *store);
}

// Room for its chunks, or for as many of them as there is room for.
std::vector<Room> ChunkFetcher::admit(const Get& get, Error* refused) {
  std::vector<bool> waited_for;
  {
    std::lock_guard lock(mutex_);
    for (const FlightPtr& f : get.flights)
      waited_for.push_back(f->rank != kFill ||
                           std::any_of(f->wholes.begin(), f->wholes.end(), [](auto& w) { return w->demand; }));
  }
  std::vector<Room> rooms;
  for (const FlightPtr& f : get.flights) {
    Result<Room> room =
        cache_.admit_chunk(get.file->object, get.file->chunk_length(f->chunk), waited_for[rooms.size()]);
    if (!room) {
      *refused = room.error();
      break;
    }
    rooms.push_back(std::move(*room));
  }
  return rooms;
}

// There is no room now. What somebody waits for is tried again, the rest is let be.
void ChunkFetcher::refuse(const std::vector<FlightPtr>& flights, const Error& error, bool behind) {
  std::vector<FlightPtr> ended;
  for (const FlightPtr& f : flights)
    if (!park(f, error)) ended.push_back(f);
  if (!ended.empty()) log_failure(*ended.front()->file, ended.front()->chunk, ended.size(), error);
  settle(ended, error, behind);
}

bool ChunkFetcher::park(const FlightPtr& f, const Error& error) {
  std::lock_guard lock(mutex_);
  if (stopping_ || error.code != EAGAIN || f->rank == kAhead) return false;
  if (!f->room_deadline) f->room_deadline = Clock::now() + wait_;
  f->get = nullptr;
  f->parked = true;
  parked_.push_back(f);
  return true;
}

void ChunkFetcher::send_get(const GetPtr& get, const std::shared_ptr<Store>& store) {
  GetRequest request;
  request.key = get->file->object.path;
  request.etag = get->file->object.etag;
  request.offset = get->body->offset();
  request.length = get->body->length();
  request.object_size = get->file->object.size;
  request.demand = !get->behind;
  auto held = std::make_shared<GetPtr>(get);
  request.on_data = [this, held](std::span<const std::byte> bytes) -> Status {
    if (stopping_) return make_error(ECANCELED, "larderd is ending");
    return (*held)->body->take(bytes);
  };
  request.on_done = [this, held](Status status) {
    {
      std::lock_guard lock(mutex_);
      ++callbacks_;
    }
    GetPtr mine = std::exchange(*held, nullptr);
    if (status) status = mine->body->end();
    ended(mine, std::move(status));
    mine.reset();
    pump();
    std::lock_guard lock(mutex_);
    if (--callbacks_ == 0) idle_.notify_all();
  };
  store->get(std::move(request));
  std::unique_lock lock(mutex_);
  const bool late =
      get->behind && std::any_of(get->flights.begin(), get->flights.end(), [](auto& f) { return f->rank == kDemand; });
  lock.unlock();  // whoever came before get() had nothing to hurry
  if (late) hurry(*get->file);
}

// ---- landing
// ---------------------------------------------------------------------------------------------------------

Status ChunkFetcher::landed(Get& get, uint32_t chunk, uint64_t sum, Room room) {
  const bool wanted = files_.landed(get.file, chunk, sum, std::move(room));
  const FlightPtr f = get.flights[get.landed++];
  Status status;
  if (!wanted && get.file->dropped.load()) status = make_error(ESTALE, "the object changed while it was fetched");
  settle({f}, status, get.behind);
  return status;
}

// What has not landed by then does not come.
void ChunkFetcher::ended(const GetPtr& get, Status status) {
  const std::vector<FlightPtr> left(get->flights.begin() + static_cast<ptrdiff_t>(get->landed), get->flights.end());
  if (!left.empty() && get->body) files_.failed(get->file, left.front()->chunk);
  get->body.reset();  // its room, before somebody tries again
  if (!status) {
    if (!left.empty()) log_failure(*get->file, left.front()->chunk, left.size(), status.error());
    report(*get, status.error());
  }
  settle(left, status, get->behind);
  free_slot(*get);
}

void ChunkFetcher::free_slot(const Get& get) {
  std::lock_guard lock(mutex_);
  --running_;
  running_behind_ -= get.behind;
  if (running_ == 0) idle_.notify_all();
}

// A changed object: the dataset is listed again, and the readers of this version get ESTALE.
void ChunkFetcher::report(const Get& get, const Error& error) {
  if (stale_ && (error.code == ESTALE || error.code == ENOENT)) stale_(get.file->object.dataset, [](const Status&) {});
}

// A program began to wait for a chunk that was fetched ahead, just as there was no room for that: again, as demand.
bool ChunkFetcher::become_demand_locked(const FlightPtr& f, const Status& status, bool behind) {
  if (status || stopping_ || f->groups.empty()) return false;
  bool no_room = status.error().code == EAGAIN || (status.error().code == ENOSPC && behind);
  if (!no_room) return false;
  f->rank = kDemand;
  if (!f->room_deadline) f->room_deadline = Clock::now() + wait_;
  f->get = nullptr;
  f->parked = true;
  parked_.push_back(f);
  return true;
}

// Who waits for nothing more.
void ChunkFetcher::settle_locked(Flight& f, const Status& status, std::vector<GroupPtr>* ready) {
  for (const GroupPtr& g : f.groups) {
    if (!status && g->status) g->status = status;
    if (--g->left > 0 && status) continue;
    if (groups_.erase(g->ticket) > 0) ready->push_back(g);
  }
  for (const WholePtr& w : f.wholes) {
    --w->running;
    if (!status && w->status) w->status = status;
  }
}

// The end of flights. All are gone before anybody is told: who tries again must not join one that has failed.
void ChunkFetcher::settle(const std::vector<FlightPtr>& flights, const Status& status, bool behind) {
  std::vector<GroupPtr> ready;
  {
    std::lock_guard lock(mutex_);
    for (const FlightPtr& f : flights) {
      if (become_demand_locked(f, status, behind)) continue;
      flights_.erase({f->file.get(), f->chunk});
      f->get = nullptr;
      settle_locked(*f, status, &ready);
    }
  }
  tell(ready, status);
}

void ChunkFetcher::tell(const std::vector<GroupPtr>& ready, const Status& status) {
  const bool stale = !status && (status.error().code == ESTALE || status.error().code == ENOENT);
  for (const GroupPtr& g : ready)
    if (g->done) g->done(stale ? make_error(ESTALE, status.error().message) : g->status);
}

}  // namespace larder
