// ObjectFetcher: what surrounds the miss path (miss_path.cc): background work, waiters that go, the end.
#include "cached/fetch/object_fetcher.h"

#include <algorithm>

#include "cached/base/files.h"

namespace larder {

ObjectFetcher::ObjectFetcher(ObjectCache& cache, uint32_t connections, uint32_t wait_ms)
    : FetchScheduler(cache,
                     {.all = connections,
                      .background = std::max(1u, connections * 7 / 8),
                      .demand_is_apart = true},  // as in the store itself
                     wait_ms) {}

void ObjectFetcher::cancel(uint64_t ticket) {
  MutexLock lock(mutex_);
  auto t = tickets_.find(ticket);
  if (t == tickets_.end()) return;
  const FlightPtr f = flights_.at(t->second);
  tickets_.erase(t);
  std::erase_if(f->waiters, [&](const ObjectFlight::Waiter& w) { return w.ticket == ticket; });
  if (f->waiters.empty() && f->sources.empty() && withdraw_locked(f)) forget_locked(*f);
}

void ObjectFetcher::forget_locked(const ObjectFlight& f) {
  flights_.erase(f.object.oid);
  for (const ObjectFlight::Waiter& w : f.waiters)
    tickets_.erase(w.ticket);
}

void ObjectFetcher::give_up(const std::vector<FlightPtr>& flights, const Error& error) {
  {
    MutexLock lock(mutex_);
    for (const FlightPtr& f : flights)
      forget_locked(*f);
  }
  for (const FlightPtr& f : flights) {
    log_failure(f->object, shown(f->object.path), error, false);
    tell(*f, error, nullptr);
  }
}

// ---- background work

void ObjectFetcher::add_source(std::shared_ptr<WorkSource> source) {
  {
    MutexLock lock(mutex_);
    sources_.push_back(std::move(source));
  }
  pump();
}

void ObjectFetcher::remove_source(const std::shared_ptr<WorkSource>& source) {
  MutexLock lock(mutex_);
  std::erase(sources_, source);
}

ObjectFetcher::GetPtr ObjectFetcher::begin_locked(FlightPtr first) {
  auto get = std::make_shared<ObjectGet>();
  add_locked(get, first);
  return get;
}

// The sources in turn.
ObjectFetcher::GetPtr ObjectFetcher::begin_fill_locked() {
  const WorkSource::MayFetch may_fill = [this](const Dataset& d) {
    mutex_.assert_held();
    return may_fill_locked(d.id());
  };
  for (size_t tried = 0; tried < sources_.size();) {
    const std::shared_ptr<WorkSource> source = sources_[next_source_++ % sources_.size()];
    std::optional<Object> object = source->next(may_fill);
    if (!object) {
      ++tried;
      continue;
    }
    FlightPtr& f = flights_[object->oid];
    if (f) {  // never twice: the source waits with the others
      f->sources.push_back(source);
      continue;
    }
    f = std::make_shared<ObjectFlight>();
    f->rank = Rank::kFill;
    f->object = std::move(*object);
    f->sources.push_back(source);
    return begin_locked(f);
  }
  return nullptr;
}

}  // namespace larder
