// The miss path: from a program that misses an object to the descriptor that it gets. Read run() first; the steps stand
// below it in its order. What surrounds them (queues, connections, background work) is in fetch_scheduler.h and
// object_fetcher.cc; large objects come by chunks (chunk_fetcher.cc).
#include "cached/base/files.h"
#include "cached/fetch/object_fetcher.h"

namespace larder {

uint64_t ObjectFetcher::fetch(const Object& object, Done done) {
  const uint64_t ticket = next_ticket_++;
  auto f = std::make_shared<ObjectFlight>();
  f->object = object;
  f->waiters.push_back({ticket, std::move(done)});
  run(f, Step::kFind);
  return ticket;
}

// A step that has to wait returns; whatever ends the wait calls run() again with the step that is due, on its own
// thread. Background work begins with kAdmit.
void ObjectFetcher::run(const FlightPtr& f, Step step, Status status) {
  const GetPtr get = f->get;  // from kAdmit on
  switch (step) {
    case Step::kFind:
      if (find_or_join(f)) return;  // it is resident, or another flight brings it
      return pump();                // kAdmit, when it is its turn
    case Step::kAdmit:
      status = take_resident(*get);  // since it was looked for, or when no descriptor was left to open it
      if (!status && park(f, status.error())) return end_get(*get);
      if (!status || get->file) return hand_out(f, status);
      if (fetch_by_chunks(f)) return;  // kHandOut, when the large object is whole
      status = admit(*get);
      if (!status && park(f, status.error())) return end_get(*get);  // kAdmit, when there may be room
      if (!status) return hand_out(f, status);
      [[fallthrough]];
    case Step::kFetch:
      status = send(get, 0, f->object.size);
      if (status) return;  // kVerify, when the store is done
      return hand_out(f, status);
    case Step::kVerify:
      if (!status) status = wait_for_descriptors(status.error());
      if (!status && park(f, status.error())) return end_get(*get);  // kAdmit, when there may be one
      if (!is_right(*get, &status)) return run(f, Step::kFetch);     // once more
      if (!status) return hand_out(f, status);
      [[fallthrough]];
    case Step::kPublish:
      status = publish(*get);
      [[fallthrough]];
    case Step::kHandOut:
      return hand_out(f, status);
  }
}

// ---- find it resident, or join the flight there is

// Both under one lock: a flight publishes before it leaves flights_, so an object that is neither resident nor on its
// way has to be fetched. False: by `f`, which is queued.
bool ObjectFetcher::find_or_join(const FlightPtr& f) {
  MutexLock lock(mutex_);
  if (auto it = flights_.find(f->object.oid); it != flights_.end()) {
    const bool is_late = join_locked(it->second, *f);
    lock.unlock();
    if (is_late) hurry(f->object);
    return true;
  }
  Result<std::shared_ptr<Fd>> file = open_resident(f->object);
  if (!file && !stopping_) {
    flights_.emplace(f->object.oid, f);
    tickets_.emplace(f->waiters.front().ticket, f->object.oid);
    enqueue_locked(f, Rank::kDemand);
    return false;
  }
  lock.unlock();
  if (file)
    tell(*f, {}, std::move(*file));
  else
    tell(*f, make_error(ECANCELED, "larderd is ending"), nullptr);
  return true;
}

// True: it is under way as background work.
bool ObjectFetcher::join_locked(const FlightPtr& to, ObjectFlight& from) {
  tickets_.emplace(from.waiters.front().ticket, to->object.oid);
  to->waiters.push_back(std::move(from.waiters.front()));
  return demand_locked(to);
}

// For a program.
Result<std::shared_ptr<Fd>> ObjectFetcher::open_resident(const Object& o) {
  std::shared_ptr<CatalogVersion> v = o.dataset->version();
  uint32_t entry = v ? v->find_file(o.path) : kNoEntry;
  if (entry == kNoEntry || v->catalog().entries[entry].oid != o.oid)
    return make_error(ESTALE, "the object changed while it was fetched");
  if (v->state(entry) != kResident) return make_error(ENOENT, "the object is not in the cache");
  Result<Fd> fd = cache_.open_for_program(*o.dataset, entry);
  if (!fd) return fd.error();
  return std::make_shared<Fd>(std::move(*fd));
}

// ---- admit

// A program's object that is resident by now. EAGAIN: it is, and no descriptor is left.
Status ObjectFetcher::take_resident(ObjectGet& get) {
  if (get.background) return {};
  Result<std::shared_ptr<Fd>> file = open_resident(get.object());
  if (file) {
    get.file = std::move(*file);
    return {};
  }
  const Error error = wait_for_descriptors(file.error());
  return error.code == EAGAIN ? Status(error) : Status();
}

bool ObjectFetcher::fetch_by_chunks(const FlightPtr& f) {
  if (!large_) return false;
  return large_(f->object, !f->get->background, [this, f](Status status) {
    Result<std::shared_ptr<Fd>> file = status ? open_resident(f->object) : std::shared_ptr<Fd>();
    if (file)
      f->get->file = std::move(*file);
    else
      status = make_error(EIO, "the object was evicted as soon as it was whole");
    run(f, Step::kHandOut, status);
    pump();
  });
}

// Room within cache_size, or a little beyond it while all is in use, and an unnamed file. EAGAIN: no room for now.
Status ObjectFetcher::admit(ObjectGet& get) {
  const Object& o = get.object();
  Result<Room> room = cache_.admit(o, !get.background);
  if (!room && room.error().code == EAGAIN && !get.background) room = cache_.admit_passing(o);
  if (!room) return room.error();
  Result<std::unique_ptr<ObjectWriter>> writer =
      ObjectWriter::create(o.dataset->folder_fd(), o.size, [this](uint64_t bytes) { return cache_.make_space(bytes); });
  if (!writer) return wait_for_descriptors(writer.error());
  get.room = std::move(*room);
  get.writer = std::move(*writer);
  return {};
}

// ---- fetch, verify, publish

Status ObjectFetcher::take(ObjectGet& get, std::span<const std::byte> bytes) {
  Status s = get.writer->write(bytes);
  if (s) get.room.wrote(bytes.size());
  return s;
}

// False: the bytes do not match the store's checksum, and another GET may bring the right ones.
bool ObjectFetcher::is_right(ObjectGet& get, Status* status) const {
  const int code = *status ? 0 : status->error().code;
  if ((code == kWrongBytes || code == kDoubtfulBytes) && !stopping_) {
    const uint64_t sum = get.writer->sum();
    const bool same_again = get.wrong_gets > 0 && sum == get.wrong_sum;
    ++get.wrong_gets;
    get.wrong_sum = sum;
    if (same_again && code == kDoubtfulBytes) {
      *status = {};
    } else if (get.wrong_gets < kMostGets) {
      get.writer->begin_again();
      return false;
    }
  }
  if (*status) *status = get.writer->finish(get.object().mtime_ns);
  return true;
}

Status ObjectFetcher::publish(ObjectGet& get) {
  if (get.room.passing()) {
    Result<std::shared_ptr<Fd>> file = cache_.pass(get.object(), *get.writer, std::move(get.room));
    if (file) get.file = std::move(*file);
    return file ? Status() : file.error();
  }
  return cache_.publish(get.object(), *get.writer, std::move(get.room));
}

// ---- hand out

// Ends the flight: everybody who waits for it gets a descriptor, or the error.
void ObjectFetcher::hand_out(const FlightPtr& f, Status status) {
  const bool background = f->get->background;
  std::shared_ptr<Fd> file = std::move(f->get->file);
  std::unique_ptr<ObjectWriter> writer = std::move(f->get->writer);  // no eviction before those who wait have theirs
  f->get->room = Room();
  if (!end_flight(f, status)) return;  // kAdmit again, as demand
  if (status && !file && f->waited_for()) {
    Result<std::shared_ptr<Fd>> opened = open_resident(f->object);
    if (opened)
      file = std::move(*opened);
    else if (writer && wait_for_descriptors(opened.error()).code == EAGAIN)
      file = std::make_shared<Fd>(writer->release());
    else
      status = opened.error();
  }
  writer.reset();
  if (!status) log_failure(f->object, shown(f->object.path), status.error(), background);
  if (!says_changed(status)) return tell(*f, status, std::move(file));
  list_again(f->object, status, [f](const Status& told) { tell(*f, told, nullptr); });
}

// False: it goes on, as demand.
bool ObjectFetcher::end_flight(const FlightPtr& f, const Status& status) {
  MutexLock lock(mutex_);
  const GetPtr get = std::exchange(f->get, nullptr);
  end_get_locked(*get);
  if (retry_as_demand_locked(f, status, get->background)) return false;
  forget_locked(*f);
  return true;
}

// Lets go of the file before the sources hear of it: they may want to evict it.
void ObjectFetcher::tell(ObjectFlight& f, const Status& status, std::shared_ptr<Fd> file) {
  for (ObjectFlight::Waiter& w : f.waiters)
    w.done(status, &w == &f.waiters.back() ? std::move(file) : file);
  file.reset();
  for (auto& source : f.sources)
    source->finished(f.object, status);
}

}  // namespace larder
