// ObjectFetcher: whole objects, one GET an object, however many wait for it. miss_path.cc is the way from a miss to a
// descriptor, step by step; object_fetcher.cc has what surrounds it. Demand has every connection besides what
// background work has, which is at most seven eighths of them.
//
// Thread-safe; callbacks run without locks held, on the store's threads, the caller's, or the one that calls tick().
#pragma once
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "cached/fetch/fetch_scheduler.h"
#include "cached/fetch/work_source.h"

namespace larder {

// On success a descriptor of the whole file, which keeps it from eviction.
using FileDone = std::function<void(const Status&, std::shared_ptr<Fd>)>;

struct ObjectGet;

// An object on its way, and who waits for it. Guarded by ObjectFetcher's lock until it has landed.
struct ObjectFlight : Scheduled<ObjectGet> {
  struct Waiter {
    uint64_t ticket;
    FileDone done;
  };
  uint64_t dataset() const { return object.dataset->id(); }
  bool waited_for() const { return !waiters.empty(); }

  Object object;
  std::vector<Waiter> waiters;                       // programs
  std::vector<std::shared_ptr<WorkSource>> sources;  // whose background work it is
};

struct ObjectGet : ScheduledGet<ObjectFlight> {
  const Object& object() const { return flights.front()->object; }

  Room room;
  std::unique_ptr<ObjectWriter> writer;  // as long as it lives, the file is not evicted
  std::shared_ptr<Fd> file;              // of a large object, which came by chunks
  int wrong_gets = 0;                    // that did not match the store's checksum
  uint64_t wrong_sum = 0;                // of the last one's bytes
};

class ObjectFetcher : public FetchScheduler<ObjectFlight, ObjectGet> {
 public:
  using Done = FileDone;
  // Fetches a large object by chunks until it is resident, and says so; false: the object is not large.
  using Large = std::function<bool(const Object&, bool demand, std::function<void(const Status&)> done)>;

  ObjectFetcher(ObjectCache& cache, uint32_t connections, uint32_t wait_ms);
  void on_large(Large large) { large_ = std::move(large); }

  // A program misses an object and waits for it. `done` is called exactly once, unless cancelled, perhaps before
  // fetch() returns. Errors: the store's; ESTALE, once the dataset was listed again; ENOSPC: no room came free in
  // wait_ms.
  uint64_t fetch(const Object& object, Done done) EXCLUDES(mutex_);
  // The waiter has gone. A flight that has not started and has no other waiter goes too.
  void cancel(uint64_t ticket) EXCLUDES(mutex_);

  void add_source(std::shared_ptr<WorkSource> source) EXCLUDES(mutex_);
  void remove_source(const std::shared_ptr<WorkSource>& source) EXCLUDES(mutex_);

 private:
  // ---- the way of a miss (miss_path.cc)
  enum class Step { kFind, kAdmit, kFetch, kVerify, kPublish, kHandOut };
  void run(const FlightPtr& f, Step step, Status status = {}) EXCLUDES(mutex_);
  bool find_or_join(const FlightPtr& f) EXCLUDES(mutex_);
  bool join_locked(const FlightPtr& to, ObjectFlight& from) REQUIRES(mutex_);
  Result<std::shared_ptr<Fd>> open_resident(const Object& object);
  bool fetch_by_chunks(const FlightPtr& f) EXCLUDES(mutex_);
  Status take_resident(ObjectGet& get);
  Status admit(ObjectGet& get);
  bool is_right(ObjectGet& get, Status* status) const;
  Status publish(ObjectGet& get);
  void hand_out(const FlightPtr& f, Status status) EXCLUDES(mutex_);
  bool end_flight(const FlightPtr& f, const Status& status) EXCLUDES(mutex_);
  void forget_locked(const ObjectFlight& f) REQUIRES(mutex_);
  static void tell(ObjectFlight& f, const Status& status, std::shared_ptr<Fd> file);

  // ---- FetchScheduler
  GetPtr begin_locked(FlightPtr first) override REQUIRES(mutex_);
  GetPtr begin_fill_locked() override REQUIRES(mutex_);
  void start(const GetPtr& get) override { run(get->flights.front(), Step::kAdmit); }
  Status take(ObjectGet& get, std::span<const std::byte> bytes) override;
  void came(const GetPtr& get, Status s) override { run(get->flights.front(), Step::kVerify, std::move(s)); }
  void give_up(const std::vector<FlightPtr>& flights, const Error& error) override;

  Large large_;
  std::unordered_map<ObjectId, FlightPtr, OidHash> flights_ GUARDED_BY(mutex_);
  std::unordered_map<uint64_t, ObjectId> tickets_ GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<WorkSource>> sources_ GUARDED_BY(mutex_);
  size_t next_source_ GUARDED_BY(mutex_) = 0;
};

}  // namespace larder
