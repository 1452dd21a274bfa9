// ChunkFetcher: from a GET that may start to the chunks that it brought, and who is told.
#include <fmt/format.h>

#include <algorithm>

#include "cached/base/files.h"
#include "cached/fetch/chunk_fetcher.h"

namespace larder {

static void log_chunks(const std::vector<std::shared_ptr<ChunkFlight>>& flights, const Error& error, bool background) {
  if (flights.empty()) return;
  const uint32_t first = flights.front()->chunk, last = flights.back()->chunk;
  const Object& object = flights.front()->file->object;
  const std::string which =
      first == last ? fmt::format("chunk {}", first) : fmt::format("chunks {} to {}", first, last);
  log_failure(object, fmt::format("{} of {}", which, shown(object.path)), error, background);
}

// ---- starting

void ChunkFetcher::start(const GetPtr& get) {
  Error refused;
  std::vector<Room> rooms = admit(*get, &refused);
  const std::vector<FlightPtr> without(get->flights.begin() + static_cast<ptrdiff_t>(rooms.size()), get->flights.end());
  get->flights.resize(rooms.size());
  refuse(without, refused, get->background);
  if (get->flights.empty()) return end_get(*get);
  auto land = [this, raw = get.get()](uint32_t chunk, uint64_t sum, Room room) {
    return landed(*raw, chunk, sum, std::move(room));
  };
  get->body.emplace(get->file, get->first(), std::move(rooms), cache_, std::move(land));
  if (Status s = send(get, get->body->offset(), get->body->length()); !s) ended(get, s);
}

// Room for its chunks, or for as many of them as there is room for.
std::vector<Room> ChunkFetcher::admit(const ChunkGet& get, Error* refused) {
  std::vector<bool> demand;
  {
    MutexLock lock(mutex_);
    for (const FlightPtr& f : get.flights)
      demand.push_back(f->rank != Rank::kFill || f->waited_for());
  }
  std::vector<Room> rooms;
  for (const FlightPtr& f : get.flights) {
    Result<Room> room = cache_.admit_chunk(get.object(), get.file->chunk_length(f->chunk), demand[rooms.size()]);
    if (!room) {
      *refused = room.error();
      break;
    }
    rooms.push_back(std::move(*room));
  }
  return rooms;
}

// There is no room now. Chunks that somebody waits for are tried again, the others end.
void ChunkFetcher::refuse(const std::vector<FlightPtr>& flights, const Error& error, bool background) {
  std::vector<FlightPtr> ended;
  for (const FlightPtr& f : flights)
    if (!park(f, error)) ended.push_back(f);
  log_chunks(ended, error, background);
  settle(ended, error, background);
}

// ENOSPC would say that the reader wrote too much: whoever waits for a chunk gets EIO.
void ChunkFetcher::give_up(const std::vector<FlightPtr>& flights, const Error& error) {
  const Error told = make_error(error.code == ENOSPC ? EIO : error.code, error.message);
  for (const FlightPtr& f : flights)
    log_chunks({f}, told, false);
  settle(flights, told, false);
}

// ---- landing

// A chunk's own bytes are there.
Status ChunkFetcher::landed(ChunkGet& get, uint32_t chunk, uint64_t sum, Room room) {
  const bool wanted = files_.landed(get.file, chunk, sum, std::move(room));
  const FlightPtr f = get.flights[get.landed++];
  Status status;
  if (!wanted && get.file->dropped.load()) status = make_error(ESTALE, "the object changed while it was fetched");
  settle({f}, status, get.background);
  return status;
}

void ChunkFetcher::came(const GetPtr& get, Status status) {
  ended(get, status ? get->body->end() : status);
}

// What has not landed by then does not come. A changed object: the dataset is listed again, and the readers of this
// version get ESTALE.
void ChunkFetcher::ended(const GetPtr& get, const Status& status) {
  const std::vector<FlightPtr> left = get->left();
  if (!left.empty()) files_.failed(get->file, left.front()->chunk);
  get->body.reset();  // its room, before somebody tries again
  if (!status) log_chunks(left, status.error(), get->background);
  if (says_changed(status)) list_again(get->object(), status, [](const Status&) {});
  if (!status && wait_for_descriptors(status.error()).code == EAGAIN)
    refuse(left, wait_for_descriptors(status.error()), get->background);
  else
    settle(left, status, get->background);
  end_get(*get);
}

// Finds those who wait for nothing more.
void ChunkFetcher::settle_locked(ChunkFlight& f, const Status& status, std::vector<GroupPtr>* ready) {
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
void ChunkFetcher::settle(const std::vector<FlightPtr>& flights, const Status& status, bool background) {
  std::vector<GroupPtr> ready;
  {
    MutexLock lock(mutex_);
    for (const FlightPtr& f : flights) {
      if (retry_as_demand_locked(f, status, background)) continue;
      flights_.erase({f->file.get(), f->chunk});
      f->get = nullptr;
      settle_locked(*f, status, &ready);
    }
  }
  tell(ready, status);
}

void ChunkFetcher::tell(const std::vector<GroupPtr>& ready, const Status& status) {
  const bool stale = says_changed(status);
  for (const GroupPtr& g : ready)
    if (g->done) g->done(stale ? make_error(ESTALE, status.error().message) : g->status);
}

}  // namespace larder
