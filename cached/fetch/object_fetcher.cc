#include "cached/fetch/object_fetcher.h"

#include <fmt/format.h>

#include <algorithm>

#include "cached/base/files.h"
#include "cached/base/log.h"

namespace larder {

ObjectFetcher::ObjectFetcher(ObjectCache& cache, uint32_t connections, uint32_t wait_ms)
    : cache_(cache), connections_(connections), wait_(wait_ms) {}

ObjectFetcher::~ObjectFetcher() = default;

// ---- asking
// ----------------------------------------------------------------------------------------------------------

// A file that is in the cache by now, for a program. fetch() calls it under the lock: a flight publishes before it
// leaves flights_, so an object that is neither here nor there really has to be fetched.
Result<std::shared_ptr<Fd>> ObjectFetcher::resident(const Object& o) {
  std::shared_ptr<CatalogVersion> v = o.dataset->version();
  uint32_t entry = v ? v->find_file(o.path) : kNoEntry;
  if (entry == kNoEntry || v->catalog().entries[entry].oid != o.oid)
    return make_error(ESTALE, "the object changed while it was fetched");
  if (v->state(entry) != kResident) return make_error(ENOENT, "the object is not in the cache");
  Result<Fd> fd = cache_.open_for_program(*o.dataset, entry);
  if (!fd) return fd.error();
  return std::make_shared<Fd>(std::move(*fd));
}

uint64_t ObjectFetcher::fetch(const Object& object, Done done) {
  std::shared_ptr<Fd> file;
  uint64_t ticket;
  bool late = false;
  {
    std::lock_guard lock(mutex_);
    ticket = next_ticket_++;
    auto it = flights_.find(object.oid);
    if (it == flights_.end()) {
      if (auto there = resident(object)) file = std::move(*there);
    }
    if (it == flights_.end() && !file) {
      auto f = std::make_shared<Flight>();
      f->object = object;
      queue_.push_back(f);
      it = flights_.emplace(object.oid, std::move(f)).first;
    }
    if (!file) {
      it->second->waiters.push_back({ticket, std::move(done)});
      tickets_.emplace(ticket, object.oid);
      late = it->second->background && !std::exchange(it->second->wanted, true);
    }
  }
  if (late) hurry(object);
  if (file)
    done({}, std::move(file));
  else
    pump();
  return ticket;
}

// It may lie in the store behind other background work.
void ObjectFetcher::hurry(const Object& object) {
  if (Result<std::shared_ptr<Store>> store = object.dataset->store()) (*store)->hurry(object.path);
}

void ObjectFetcher::cancel(uint64_t ticket) {
  std::lock_guard lock(mutex_);
  auto t = tickets_.find(ticket);
  if (t == tickets_.end()) return;
  auto it = flights_.find(t->second);
  tickets_.erase(t);
  if (it == flights_.end()) return;
  FlightPtr f = it->second;
  std::erase_if(f->waiters, [&](const Waiter& w) { return w.ticket == ticket; });
  if (f->started || !f->waiters.empty() || !f->sources.empty()) return;
  std::erase(queue_, f);
  std::erase(parked_, f);
  flights_.erase(it);
}

void ObjectFetcher::add_source(std::shared_ptr<WorkSource> source) {
  {
    std::lock_guard lock(mutex_);
    sources_.push_back(std::move(source));
  }
  pump();
}

void ObjectFetcher::remove_source(const std::shared_ptr<WorkSource>& source) {
  std::lock_guard lock(mutex_);
  std::erase(sources_, source);
}

void ObjectFetcher::kick() {
  pump();
}

void ObjectFetcher::tick() {
  std::vector<FlightPtr> expired;
  {
    std::lock_guard lock(mutex_);
    Clock::time_point now = Clock::now();
    while (!parked_.empty()) {
      FlightPtr f = std::move(parked_.back());
      parked_.pop_back();
      if (*f->room_deadline > now) {
        queue_.push_front(std::move(f));
        continue;
      }
      f->started = true;
      ++running_;
      expired.push_back(std::move(f));
    }
  }
  for (const FlightPtr& f : expired)
    finish(f,
           make_error(ENOSPC, fmt::format("no room came free in {} ms: cache_size is {} and every file in the cache is "
                                          "in use; give a larger cache_size",
                                          wait_.count(), cache_.limits().cache_size)),
           nullptr);
  pump();
}

ObjectFetcher::Counts ObjectFetcher::counts() const {
  std::lock_guard lock(mutex_);
  return {running_, queue_.size() + parked_.size()};
}

// ---- starting
// --------------------------------------------------------------------------------------------------------

void ObjectFetcher::pump() {
  for (;;) {
    FlightPtr f;
    {
      std::lock_guard lock(mutex_);
      f = pick_locked();
      if (!f) return;
      f->started = true;
      ++running_;
      running_background_ += f->background;
    }
    start(f);
  }
}

ObjectFetcher::FlightPtr ObjectFetcher::pick_locked() {
  if (stopping_) return nullptr;
  if (!queue_.empty() &&
      running_ - running_background_ < connections_) {  // the store keeps demand apart from fill itself
    FlightPtr f = std::move(queue_.front());
    queue_.pop_front();
    return f;
  }
  uint32_t share = std::max<uint32_t>(1, connections_ * 7 / 8);
  return running_ < connections_ && running_background_ < share ? pick_background_locked() : nullptr;
}

ObjectFetcher::FlightPtr ObjectFetcher::pick_background_locked() {
  for (size_t tried = 0; tried < sources_.size();) {
    std::shared_ptr<WorkSource> source = sources_[next_source_++ % sources_.size()];
    std::optional<Object> object = source->next();
    if (!object) {
      ++tried;
      continue;
    }
    auto it = flights_.find(object->oid);
    if (it != flights_.end()) {  // never twice: the source waits with the others
      it->second->sources.push_back(source);
      continue;
    }
    auto f = std::make_shared<Flight>();
    f->object = std::move(*object);
    f->background = true;
    f->sources.push_back(std::move(source));
    flights_.emplace(f->object.oid, f);
    return f;
  }
  return nullptr;
}

void ObjectFetcher::start(const FlightPtr& f) {
  const Object& o = f->object;
  Result<std::shared_ptr<Store>> store = o.dataset->store();
  if (!store) return finish(f, store.error(), nullptr);
  if (large_ && large_(o, !f->background, [this, f](const Status& s) { landed_by_chunks(f, s); })) return;
  Result<Room> room = cache_.admit(o, !f->background);
  if (!room) {
    if (!park(f, room.error())) finish(f, room.error(), nullptr);
    return;
  }
  f->room = std::move(*room);
  Result<std::unique_ptr<ObjectWriter>> writer =
      ObjectWriter::create(o.dataset->folder_fd(), o.size, [this](uint64_t bytes) { return cache_.make_space(bytes); });
  if (!writer) return finish(f, writer.error(), nullptr);
  f->writer = std::move(*writer);
  send_get(f, *store);
}

// EAGAIN: the flight waits for room, at most wait_ms in all.
bool ObjectFetcher::park(const FlightPtr& f, const Error& error) {
  if (error.code != EAGAIN) return false;
  std::lock_guard lock(mutex_);
  if (stopping_) return false;
  if (!f->room_deadline) f->room_deadline = Clock::now() + wait_;
  f->started = false;
  --running_;
  if (f->waiters.empty() && f->sources.empty())
    flights_.erase(f->object.oid);  // cancelled meanwhile
  else
    parked_.push_back(f);
  return true;
}

void ObjectFetcher::send_get(const FlightPtr& f, const std::shared_ptr<Store>& store) {
  GetRequest get;
  get.key = f->object.path;
  get.etag = f->object.etag;
  get.length = get.object_size = f->object.size;
  get.demand = !f->background;
  // The flight keeps its dataset, which keeps the store, which must not be destroyed by its own thread: on_done lets go
  // of the flight before stop() can return, whenever the store lets go of the request.
  auto held = std::make_shared<FlightPtr>(f);
  get.on_data = [this, held](std::span<const std::byte> bytes) -> Status {
    if (stopping_) return make_error(ECANCELED, "larderd is ending");
    Status s = (*held)->writer->write(bytes);
    if (s) (*held)->room.wrote(bytes.size());
    return s;
  };
  get.on_done = [this, held](Status status) {
    {
      std::lock_guard lock(mutex_);
      ++callbacks_;
    }
    FlightPtr mine = std::exchange(*held, nullptr);
    if (!get_again(mine, status)) landed(mine, std::move(status));
    mine.reset();
    pump();
    std::lock_guard lock(mutex_);
    if (--callbacks_ == 0) idle_.notify_all();
  };
  store->get(std::move(get));
  std::unique_lock lock(mutex_);
  if (!f->wanted) return;
  lock.unlock();  // whoever came before get() had nothing to hurry
  hurry(f->object);
}

// The bytes that came are not those of the store's checksum: they are fetched again.
bool ObjectFetcher::get_again(const FlightPtr& f, Status& status) {
  const int code = status ? 0 : status.error().code;
  if ((code != kWrongBytes && code != kDoubtfulBytes) || stopping_) return false;
  const uint64_t sum = f->writer->sum();
  if (f->wrong_gets++ > 0 && sum == f->wrong_sum && code == kDoubtfulBytes) {
    status = {};
    return false;
  }
  f->wrong_sum = sum;
  Result<std::shared_ptr<Store>> store = f->object.dataset->store();
  if (f->wrong_gets == kMostGets || !store) return false;
  f->writer->begin_again();
  send_get(f, *store);
  return true;
}

// ---- landing
// ---------------------------------------------------------------------------------------------------------

void ObjectFetcher::landed(const FlightPtr& f, Status status) {
  if (status) status = f->writer->finish(f->object.mtime_ns);
  if (status) status = cache_.publish(f->object, *f->writer, std::move(f->room));
  finish(f, std::move(status), nullptr);
}

void ObjectFetcher::landed_by_chunks(const FlightPtr& f, const Status& status) {
  Result<std::shared_ptr<Fd>> file = status ? resident(f->object) : Result<std::shared_ptr<Fd>>(std::shared_ptr<Fd>());
  if (!file)
    finish(f, make_error(EIO, "the object was evicted as soon as it was whole"), nullptr);
  else
    finish(f, status, std::move(*file));
  pump();
}

// Background work that found the cache full while a program began to wait for it: again, as demand.
bool ObjectFetcher::become_demand(const FlightPtr& f, const Status& status) {
  if (status || status.error().code != ENOSPC || !f->background || f->waiters.empty() || stopping_) return false;
  --running_;
  --running_background_;
  f->background = false;
  f->started = false;
  queue_.push_back(f);
  return true;
}

void ObjectFetcher::finish(const FlightPtr& f, Status status, std::shared_ptr<Fd> file) {
  std::unique_ptr<ObjectWriter> writer =
      std::move(f->writer);  // keeps the file from eviction until those who wait have theirs
  f->room = Room();
  {
    std::lock_guard lock(mutex_);
    if (become_demand(f, status)) return;
    flights_.erase(f->object.oid);
    for (const Waiter& w : f->waiters)
      tickets_.erase(w.ticket);
    --running_;
    running_background_ -= f->background;
    if (running_ == 0) idle_.notify_all();
  }
  if (status && !file && !f->waiters.empty()) {
    Result<std::shared_ptr<Fd>> opened = resident(f->object);
    if (opened)
      file = std::move(*opened);
    else
      status = opened.error();
  }
  writer.reset();
  if (!status) log_failure(*f, status);
  bool stale = !status && (status.error().code == ESTALE || status.error().code == ENOENT);
  if (!stale || !stale_) return report(*f, status, std::move(file));
  stale_(f->object.dataset, [this, f](const Status& refreshed) { report(*f, refreshed, nullptr); });
}

// Lets go of the file before it says so: who was told may want to evict it.
void ObjectFetcher::report(Flight& f, const Status& status, std::shared_ptr<Fd> file) {
  for (Waiter& w : f.waiters)
    w.done(status, &w == &f.waiters.back() ? std::move(file) : file);
  file.reset();
  for (auto& source : f.sources)
    source->finished(f.object, status);
}

void ObjectFetcher::log_failure(const Flight& f, const Status& status) {
  int code = status.error().code;
  if (code == ECANCELED || (code == ENOSPC && f.background)) return;
  spdlog::warn("{}: {} was not fetched: {}", f.object.dataset->label(), shown(f.object.path), status.error().message);
}

bool ObjectFetcher::stop(std::chrono::milliseconds limit) {
  std::deque<FlightPtr> queued;
  std::unique_lock lock(mutex_);
  stopping_ = true;
  for (auto* queue : {&queue_, &parked_}) {
    for (FlightPtr& f : *queue)
      queued.push_back(std::move(f));
    queue->clear();
  }
  for (const FlightPtr& f : queued)
    flights_.erase(f->object.oid);
  lock.unlock();
  for (const FlightPtr& f : queued)
    report(*f, make_error(ECANCELED, "larderd is ending"), nullptr);
  lock.lock();
  return idle_.wait_for(lock, limit, [this] { return running_ == 0 && callbacks_ == 0; });
}

}  // namespace larder
