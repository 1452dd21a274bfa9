// FetchScheduler: which GET goes next, and which flight waits for room in the cache. It lies under ObjectFetcher and
// ChunkFetcher, which derive from it and say what a GET asks for, what becomes of its bytes and who is told.
//
// A flight is something that is wanted once, however many wait for it. It lies in a queue, is parked (no room came
// free yet), or belongs to a GET, which may bring several. Demand goes before what is read ahead, and both before fill.
// A GET that no program waits for when it begins counts as background work and has a share of the connections. Each
// dataset has its share, too (fetch_lanes.h).
//
// Thread-safe. What derives keeps its own state under `mutex_`; functions that end in _locked need it held, the others
// must be called without it. No callback of a store or of who waits runs with it held. Order: before ObjectCache's.
#pragma once
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "cached/base/mutex.h"
#include "cached/cache/object_cache.h"
#include "cached/catalog/dataset.h"
#include "cached/fetch/fetch_lanes.h"
#include "cached/fetch/missing_objects.h"

namespace larder {

// The store says that an object has changed or gone: lists the dataset again, then calls `then` (ESTALE, or why it
// could not).
using StaleHandler = std::function<void(std::shared_ptr<Dataset>, std::function<void(const Status&)> then)>;

// Readers of an object that wait while its dataset is listed again. tell() works once.
class Relisting {
 public:
  using Then = std::function<void(const Status&)>;
  Relisting(Then then, std::chrono::steady_clock::time_point deadline) : then_(std::move(then)), deadline_(deadline) {}
  void tell(const Status& status) {
    if (!told_.exchange(true)) std::exchange(then_, nullptr)(status);
  }
  bool is_over() const { return told_; }
  std::chrono::steady_clock::time_point deadline() const { return deadline_; }

 private:
  Then then_;
  const std::chrono::steady_clock::time_point deadline_;
  std::atomic<bool> told_{false};
};

// Does the store say so?
bool says_changed(const Status& status);
// What larderd itself lacks comes free when other flights end, and is waited for as room is: EMFILE and ENFILE become
// EAGAIN.
Error wait_for_descriptors(const Error& error);
// A program waits now for GETs of this object that were sent as background work: the store takes them first.
void hurry(const Object& object);
// `what`: the object, or which part of it. Silent about the daemon's end, and about background work in a full cache.
void log_failure(const Object& object, std::string_view what, const Error& error, bool background);

// What the scheduler knows of a flight. Guarded by its lock.
template <typename Get>
struct Scheduled {
  Rank rank = Rank::kDemand;
  std::optional<Rank> queue;  // in which it lies
  int64_t place = 0;          // there; the smallest goes first
  bool parked = false;
  std::optional<std::chrono::steady_clock::time_point> room_deadline;
  std::shared_ptr<Get> get;  // that brings it; of queue, parked and get at most one is set
};

// And of a GET. Only whoever runs it touches it; `background` is fixed once it runs.
template <typename Flight>
struct ScheduledGet {
  std::vector<std::shared_ptr<Flight>> flights;                // at least one
  bool background = false;                                     // no program waited when it began
  uint64_t dataset = 0;                                        // whose it is
  std::atomic<std::chrono::steady_clock::time_point> moved{};  // when it began, or its last byte came
};

// Flight: a Scheduled<Get> with `uint64_t dataset() const` (its id) and `bool waited_for() const` (a program waits;
// called under the lock).
// Get: a ScheduledGet<Flight> with `const Object& object() const`.
template <typename Flight, typename Get>
class FetchScheduler {
 public:
  virtual ~FetchScheduler() = default;
  void on_stale(StaleHandler handler) { stale_ = std::move(handler); }

  // Work or room may be there.
  void kick() EXCLUDES(mutex_) { pump(); }
  // Tries those again that wait for room, and ends those that have waited too long, for room or for a listing. Call
  // every 20 ms or so.
  void tick() EXCLUDES(mutex_);
  struct Counts {
    uint64_t in_flight;  // GETs
    uint64_t queued;     // flights of demand, and those that wait for room
  };
  Counts counts() const EXCLUDES(mutex_);
  // Ends every flight (ECANCELED) and waits for the stores to let go, at most so long. False if some did not.
  bool stop(std::chrono::milliseconds limit) EXCLUDES(mutex_);

 protected:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kLook{250};  // for GETs that have stalled
  // Listings keep a pause between them, and a quick one after that is waited for, however short wait_ms is.
  static constexpr std::chrono::milliseconds kLeastListing{5000};
  using FlightPtr = std::shared_ptr<Flight>;
  using GetPtr = std::shared_ptr<Get>;
  using Connections = larder::Connections;

  FetchScheduler(ObjectCache& cache, Connections connections, uint32_t wait_ms)
      : cache_(cache), wait_(wait_ms), lanes_(connections) {}

  // ---- what derives says
  // The GET of a flight whose turn it is, and of those that go with it: add_locked() each.
  virtual GetPtr begin_locked(FlightPtr first) REQUIRES(mutex_) = 0;
  // The next GET of fill, of a dataset for which may_fill_locked(), or null.
  virtual GetPtr begin_fill_locked() REQUIRES(mutex_) = 0;
  // Makes room and calls send(), or ends. Whatever way a GET ends, end_get_locked() once.
  virtual void start(const GetPtr& get) EXCLUDES(mutex_) = 0;
  // Bytes in order; an error ends the GET.
  virtual Status take(Get& get, std::span<const std::byte> bytes) = 0;
  // The store is done with it.
  virtual void came(const GetPtr& get, Status status) EXCLUDES(mutex_) = 0;
  // These wait no longer: no room came free, or the daemon ends.
  virtual void give_up(const std::vector<FlightPtr>& flights, const Error& error) EXCLUDES(mutex_) = 0;
  // After each pump().
  virtual void pumped() EXCLUDES(mutex_) {}

  // ---- flights
  void enqueue_locked(const FlightPtr& f, Rank rank) REQUIRES(mutex_) { put_locked(f, rank, ++last_place_); }
  void dequeue_locked(Flight& f) REQUIRES(mutex_);
  size_t queued_locked(uint64_t dataset, Rank rank) const REQUIRES(mutex_) { return lanes_.queued(dataset, rank); }
  FlightPtr first_locked(uint64_t dataset, Rank rank) REQUIRES(mutex_) { return lanes_.first(dataset, rank); }
  bool may_fill_locked(uint64_t dataset) const REQUIRES(mutex_) { return lanes_.may_start(dataset, Rank::kFill); }
  // Out of its queue, or from among the parked. False: it lies in neither.
  bool withdraw_locked(const FlightPtr& f) REQUIRES(mutex_);
  void add_locked(const GetPtr& get, const FlightPtr& f) REQUIRES(mutex_);
  // A program waits for it from now on. True if it is under way as background work: then hurry().
  bool demand_locked(const FlightPtr& f) REQUIRES(mutex_);
  // There is no room now (EAGAIN): the flight waits for some, wait_ms in all. False: it must end.
  bool park(const FlightPtr& f, const Error& error) EXCLUDES(mutex_);
  // Background work found no room just as a program began to wait for it: it goes again, as demand.
  bool retry_as_demand_locked(const FlightPtr& f, const Status& status, bool background) REQUIRES(mutex_);

  // ---- GETs
  // Starts what may start.
  void pump() EXCLUDES(mutex_);
  // Asks the store for a part of the GET's object; take() and came() follow, perhaps before this returns. An error:
  // there is no store, and nothing follows.
  Status send(const GetPtr& get, uint64_t offset, uint64_t length) EXCLUDES(mutex_);
  void end_get(const Get& get) EXCLUDES(mutex_);
  // The store says that an object has changed or gone. `then` gets what its readers are told, once the dataset was
  // listed again if need be: ESTALE, or ENOENT for what the newest listing has all the same; EIO after wait_ms.
  void list_again(const Object& object, const Status& status, std::function<void(const Status&)> then) EXCLUDES(mutex_);
  void end_get_locked(const Get& get) REQUIRES(mutex_);

  ObjectCache& cache_;
  StaleHandler stale_;
  mutable Mutex mutex_;
  std::atomic<uint64_t> next_ticket_{1};
  std::atomic<bool> stopping_{false};

 private:
  // A callback of a store: stop() waits until it has returned.
  class Visit {
   public:
    explicit Visit(FetchScheduler& s) : s_(s) {
      MutexLock lock(s_.mutex_);
      ++s_.visits_;
    }
    ~Visit() {
      MutexLock lock(s_.mutex_);
      if (--s_.visits_ == 0) s_.idle_.notify_all();
    }
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;

   private:
    FetchScheduler& s_;
  };

  void put_locked(const FlightPtr& f, Rank rank, int64_t place) REQUIRES(mutex_);
  GetPtr pick_locked() REQUIRES(mutex_);
  bool is_waited_for(const Get& get) const EXCLUDES(mutex_);
  static bool is_waited_for_locked(const Get& get);
  void landed(GetPtr get, Status status) EXCLUDES(mutex_);
  Error no_room() const;
  void end_late_listings() EXCLUDES(mutex_);

  std::vector<FlightPtr> parked_ GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<Relisting>> listings_ GUARDED_BY(mutex_);  // in the order of their deadlines
  MissingObjects missing_;
  const std::chrono::milliseconds wait_;
  CondVar idle_;
  FetchLanes<Flight, Get> lanes_ GUARDED_BY(mutex_);
  Clock::time_point next_look_ GUARDED_BY(mutex_){};
  int64_t first_place_ GUARDED_BY(mutex_) = 0, last_place_ GUARDED_BY(mutex_) = 0;
  uint32_t visits_ GUARDED_BY(mutex_) = 0;
};

// ---- flights

template <typename Flight, typename Get>
void FetchScheduler<Flight, Get>::put_locked(const FlightPtr& f, Rank rank, int64_t place) {
  f->queue = rank;
  f->place = place;
  lanes_.put(f, rank, place);
}

template <typename Flight, typename Get>
void FetchScheduler<Flight, Get>::dequeue_locked(Flight& f) {
  if (!f.queue) return;
  const Rank rank = *f.queue;
  f.queue.reset();
  lanes_.take_out(f, rank, f.place);
}

template <typename Flight, typename Get>
bool FetchScheduler<Flight, Get>::withdraw_locked(const FlightPtr& f) {
  if (!f->queue && !f->parked) return false;
  dequeue_locked(*f);
  if (std::exchange(f->parked, false)) std::erase(parked_, f);
  return true;
}

template <typename Flight, typename Get>
void FetchScheduler<Flight, Get>::add_locked(const GetPtr& get, const FlightPtr& f) {
  dequeue_locked(*f);
  f->get = get;
  get->flights.push_back(f);
}

template <typename Flight, typename Get>
bool FetchScheduler<Flight, Get>::demand_locked(const FlightPtr& f) {
  const bool is_new = std::exchange(f->rank, Rank::kDemand) != Rank::kDemand;
  if (f->queue == Rank::kAhead) {
    dequeue_locked(*f);
    enqueue_locked(f, Rank::kDemand);
  }
  return is_new && f->get && f->get->background;
}

template <typename Flight, typename Get>
bool FetchScheduler<Flight, Get>::park(const FlightPtr& f, const Error& error) {
  MutexLock lock(mutex_);
  if (stopping_ || error.code != EAGAIN || !f->waited_for()) return false;
  if (!f->room_deadline) f->room_deadline = Clock::now() + wait_;
  f->get = nullptr;
  f->parked = true;
  parked_.push_back(f);
  return true;
}

template <typename Flight, typename Get>
bool FetchScheduler<Flight, Get>::retry_as_demand_locked(const FlightPtr& f, const Status& status, bool background) {
  if (status || stopping_ || !f->waited_for()) return false;
  const int code = status.error().code;
  if (code != EAGAIN && !(code == ENOSPC && background)) return false;
  f->get = nullptr;
  f->rank = Rank::kDemand;
  enqueue_locked(f, Rank::kDemand);
  return true;
}

template <typename Flight, typename Get>
void FetchScheduler<Flight, Get>::tick() {
  std::vector<FlightPtr> late;
  {
    MutexLock lock(mutex_);
    const Clock::time_point now = Clock::now();
    for (; !parked_.empty(); parked_.pop_back()) {
      const FlightPtr& f = parked_.back();
      f->parked = false;
      if (*f->room_deadline > now)
        put_locked(f, Rank::kDemand, --first_place_);
      else
        late.push_back(f);
    }
    if (now >= next_look_) {
      lanes_.look(now);
      next_look_ = now + kLook;
    }
  }
  if (!late.empty()) give_up(late, no_room());
  end_late_listings();
  pump();
}

template <typename Flight, typename Get>
void FetchScheduler<Flight, Get>::end_late_listings() {
  std::vector<std::shared_ptr<Relisting>> late;
  {
    MutexLock lock(mutex_);
    std::erase_if(listings_, [](auto& l) { return l->is_over(); });
    const auto end =
        std::find_if(listings_.begin(), listings_.end(), [now = Clock::now()](auto& l) { return l->deadline() > now; });
    late.assign(listings_.begin(), end);
    listings_.erase(listings_.begin(), end);
  }
  for (auto& l : late)
    l->tell(make_error(EIO, fmt::format("the object changed, and its dataset is not listed again after {} ms",
                                        std::max(wait_, kLeastListing).count())));
}

template <typename Flight, typename Get>
Error FetchScheduler<Flight, Get>::no_room() const {
  return make_error(ENOSPC, fmt::format("no room came free in {} ms: cache_size is {} and all of it is in use; give a "
                                        "larger cache_size",
                                        wait_.count(), cache_.limits().cache_size));
}

// ---- GETs

template <typename Flight, typename Get>
void FetchScheduler<Flight, Get>::pump() {
  for (;;) {
    GetPtr get;
    {
      MutexLock lock(mutex_);
      get = pick_locked();
      if (!get) break;
      get->background = !is_waited_for_locked(*get);
      lanes_.started(*get);
    }
    start(get);
  }
  pumped();
}

template <typename Flight, typename Get>
typename FetchScheduler<Flight, Get>::GetPtr FetchScheduler<Flight, Get>::pick_locked() {
  if (stopping_) return nullptr;
  for (Rank rank : {Rank::kDemand, Rank::kAhead})
    if (FlightPtr next = lanes_.next(rank)) return begin_locked(std::move(next));
  return begin_fill_locked();
}

template <typename Flight, typename Get>
Status FetchScheduler<Flight, Get>::send(const GetPtr& get, uint64_t offset, uint64_t length) {
  const Object& object = get->object();
  Result<std::shared_ptr<Store>> store = object.dataset->store();
  if (!store) return store.error();
  GetRequest request;
  request.key = object.path;
  request.etag = object.etag;
  request.mtime_ns = object.mtime_ns;
  request.offset = offset;
  request.length = length;
  request.object_size = object.size;
  request.demand = !get->background;
  // A GET keeps its dataset, which keeps the store, which must not be destroyed by its own thread: landed() lets go of
  // the GET before stop() can return, whenever the store lets go of the request.
  auto held = std::make_shared<GetPtr>(get);
  request.on_data = [this, held](std::span<const std::byte> bytes) -> Status {
    if (stopping_) return make_error(ECANCELED, "larderd is ending");
    (*held)->moved = Clock::now();
    return take(**held, bytes);
  };
  request.on_done = [this, held](Status s) { landed(std::exchange(*held, nullptr), std::move(s)); };
  (*store)->get(std::move(request));
  if (get->background && is_waited_for(*get)) hurry(object);  // whoever came before get() had nothing to hurry
  return {};
}

template <typename Flight, typename Get>
bool FetchScheduler<Flight, Get>::is_waited_for(const Get& get) const {
  MutexLock lock(mutex_);
  return is_waited_for_locked(get);
}

template <typename Flight, typename Get>
bool FetchScheduler<Flight, Get>::is_waited_for_locked(const Get& get) {
  return std::any_of(get.flights.begin(), get.flights.end(),
                     [](const FlightPtr& f) { return f->rank == Rank::kDemand; });
}

template <typename Flight, typename Get>
void FetchScheduler<Flight, Get>::landed(GetPtr get, Status status) {
  Visit visit(*this);
  came(get, std::move(status));
  get.reset();
  pump();
}

template <typename Flight, typename Get>
void FetchScheduler<Flight, Get>::list_again(const Object& object, const Status& status,
                                             std::function<void(const Status&)> then) {
  const bool gone = status.error().code == ENOENT;
  if (!stale_ || (gone && is_listed(object) && !missing_.is_listing_due(*object.dataset, Clock::now())))
    return then(status);
  auto waiting = std::make_shared<Relisting>(std::move(then), Clock::now() + std::max(wait_, kLeastListing));
  {
    MutexLock lock(mutex_);
    listings_.push_back(waiting);
  }
  stale_(object.dataset, [object, status, gone, waiting](const Status& refreshed) {
    const bool listed_all_the_same = gone && !refreshed && refreshed.error().code == ESTALE && is_listed(object);
    waiting->tell(listed_all_the_same ? status : refreshed);
  });
}

template <typename Flight, typename Get>
void FetchScheduler<Flight, Get>::end_get(const Get& get) {
  MutexLock lock(mutex_);
  end_get_locked(get);
}

template <typename Flight, typename Get>
void FetchScheduler<Flight, Get>::end_get_locked(const Get& get) {
  lanes_.ended(get);
  if (lanes_.running() == 0) idle_.notify_all();
}

template <typename Flight, typename Get>
typename FetchScheduler<Flight, Get>::Counts FetchScheduler<Flight, Get>::counts() const {
  MutexLock lock(mutex_);
  return {lanes_.running(), lanes_.queued(Rank::kDemand) + parked_.size()};
}

template <typename Flight, typename Get>
bool FetchScheduler<Flight, Get>::stop(std::chrono::milliseconds limit) {
  const Clock::time_point deadline = Clock::now() + limit;
  MutexLock lock(mutex_);
  stopping_ = true;
  std::vector<FlightPtr> waiting = std::exchange(parked_, {});
  for (FlightPtr& f : lanes_.take_all())
    waiting.push_back(std::move(f));
  for (const FlightPtr& f : waiting) {
    f->queue.reset();
    f->parked = false;
  }
  lock.unlock();
  give_up(waiting, make_error(ECANCELED, "larderd is ending"));
  pump();
  lock.lock();
  while (lanes_.running() > 0 || visits_ > 0)
    if (!idle_.wait_until(mutex_, deadline)) return lanes_.running() == 0 && visits_ == 0;
  return true;
}

}  // namespace larder
