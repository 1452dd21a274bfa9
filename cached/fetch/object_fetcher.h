// ObjectFetcher: one GET an object, however many wait for it. Demand goes before background work and may use every
// connection; background work at most seven eighths of them. Thread-safe; callbacks run without locks held, on the
// store's threads, the caller's, or the one that calls tick().
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "cached/cache/object_cache.h"
#include "cached/catalog/dataset.h"

namespace larder {

// Where background work comes from: asked when a connection is free. next() and accept() run under the flights' lock:
// they must be quick and must not call ObjectFetcher.
class WorkSource {
 public:
  virtual ~WorkSource() = default;
  // The next object that is not in the cache, or nothing for now (ObjectFetcher::kick() when that changes).
  virtual std::optional<Object> next() = 0;
  // An object that next() gave came in (or not). ENOSPC: the cache is full.
  virtual void finished(const Object& object, const Status& status) = 0;
};

class ObjectFetcher {
 public:
  // On success a descriptor of the whole file, which keeps it from eviction.
  using Done = std::function<void(const Status&, std::shared_ptr<Fd>)>;
  // The store says that an object changed or went: refreshes the dataset, then calls `then` (ESTALE, or why it could
  // not).
  using StaleHandler = std::function<void(std::shared_ptr<Dataset>, std::function<void(const Status&)> then)>;

  // Fetches a large object by chunks until it is resident, and says so; false: the object is not for it.
  using Large = std::function<bool(const Object&, bool demand, std::function<void(const Status&)> done)>;

  ObjectFetcher(ObjectCache& cache, uint32_t connections, uint32_t wait_ms);
  ~ObjectFetcher();
  void on_large(Large large) { large_ = std::move(large); }
  void on_stale(StaleHandler handler) { stale_ = std::move(handler); }

  // Fetches an object for a program that waits; joins the flight there is. `done` is called exactly once, unless
  // cancelled, and may be called before fetch returns. Errors: the store's; ENOSPC when no room could be made in
  // wait_ms.
  uint64_t fetch(const Object& object, Done done);
  // The waiter has gone. A flight that has not started and has no other waiter goes too.
  void cancel(uint64_t ticket);

  void add_source(std::shared_ptr<WorkSource> source);
  void remove_source(const std::shared_ptr<WorkSource>& source);
  // Work or room may be there.
  void kick();
  // Tries those again that wait for room; ends those that waited too long. Call every 20 ms or so.
  void tick();

  struct Counts {
    uint64_t in_flight, queued;
  };
  Counts counts() const;

  // Ends every flight (ECANCELED) and waits for the stores to let go, at most so long. False if some did not.
  bool stop(std::chrono::milliseconds limit);

 private:
  using Clock = std::chrono::steady_clock;
  struct Waiter {
    uint64_t ticket;
    Done done;
  };
  struct Flight {
    Object object;
    bool background = false;  // started for a source, on the background share of connections
    bool started = false;
    bool wanted = false;  // a program waits for what was begun in the background
    std::vector<Waiter> waiters;
    std::vector<std::shared_ptr<WorkSource>> sources;
    std::optional<Clock::time_point> room_deadline;
    Room room;
    std::unique_ptr<ObjectWriter> writer;
    int wrong_gets = 0;      // that the store's checksum was against
    uint64_t wrong_sum = 0;  // of the last one's bytes
  };
  using FlightPtr = std::shared_ptr<Flight>;

  Result<std::shared_ptr<Fd>> resident(const Object& object);
  void pump();
  FlightPtr pick_locked();
  FlightPtr pick_background_locked();
  void start(const FlightPtr& f);
  bool park(const FlightPtr& f, const Error& error);
  void send_get(const FlightPtr& f, const std::shared_ptr<Store>& store);
  bool get_again(const FlightPtr& f, Status& status);
  void hurry(const Object& object);
  void landed(const FlightPtr& f, Status status);
  void landed_by_chunks(const FlightPtr& f, const Status& status);
  void finish(const FlightPtr& f, Status status, std::shared_ptr<Fd> file);
  bool become_demand(const FlightPtr& f, const Status& status);
  void report(Flight& f, const Status& status, std::shared_ptr<Fd> file);
  void log_failure(const Flight& f, const Status& status);

  ObjectCache& cache_;
  const uint32_t connections_;
  const std::chrono::milliseconds wait_;
  StaleHandler stale_;
  Large large_;
  mutable std::mutex mutex_;
  std::condition_variable idle_;
  std::unordered_map<ObjectId, FlightPtr, OidHash> flights_;
  std::unordered_map<uint64_t, ObjectId> tickets_;
  std::deque<FlightPtr> queue_;   // demand, not started
  std::deque<FlightPtr> parked_;  // demand, waiting for room
  std::vector<std::shared_ptr<WorkSource>> sources_;
  size_t next_source_ = 0;
  uint64_t next_ticket_ = 1;
  uint32_t running_ = 0;
  uint32_t running_background_ = 0;
  uint32_t callbacks_ = 0;  // store callbacks that have not returned
  std::atomic<bool> stopping_{false};
};

}  // namespace larder
