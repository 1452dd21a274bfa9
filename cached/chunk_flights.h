// Flights of chunks: one GET a chunk, however many wait for it. Demand goes first, then what is fetched ahead of sequential readers,
// then background work. Thread-safe; callbacks run without locks held.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "cached/flight.h"
#include "cached/lazy_files.h"
#include "cached/readahead.h"

namespace larder {

class ChunkFlights {
 public:
  using Done = std::function<void(const Status&)>;

  ChunkFlights(LazyFiles& files, ObjectCache& cache, uint32_t connections, uint32_t wait_ms);
  ~ChunkFlights();
  void on_stale(Flights::StaleHandler handler) { stale_ = std::move(handler); }

  // A program waits for [first, first + count). `done` is called exactly once, unless cancelled; perhaps before this returns.
  uint64_t want(const LazyPtr& file, uint32_t first, uint32_t count, Done done);
  void cancel(uint64_t ticket);
  // A program came by marked chunks, or says that it will read them.
  void passed(const LazyPtr& file, uint32_t chunk);
  void advise(const LazyPtr& file, uint32_t first, uint32_t count);
  // All of it, until it is an ordinary cache file. `demand`: a program waits; else errors as Flights' background work (ENOSPC).
  void fetch_whole(const LazyPtr& file, bool demand, Done done);

  // Tries those again that wait for room; ends those that waited too long. Call every 20 ms or so.
  void tick();
  uint32_t in_flight() const;
  bool stop(std::chrono::milliseconds limit);

 private:
  using Clock = std::chrono::steady_clock;
  enum class Rank { kDemand, kAhead, kFill };
  struct Group {  // of one want()
    uint64_t ticket = 0;
    uint32_t left = 0;
    Status status;
    Done done;
  };
  struct Whole {  // of one fetch_whole()
    LazyPtr file;
    bool demand = false;
    uint32_t next = 0;
    uint32_t running = 0;
    Status status;
    Done done;
  };
  using GroupPtr = std::shared_ptr<Group>;
  using WholePtr = std::shared_ptr<Whole>;
  struct Flight;
  using FlightPtr = std::shared_ptr<Flight>;
  struct Key {
    const LazyFile* file;
    uint32_t chunk;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    size_t operator()(const Key& k) const { return reinterpret_cast<uintptr_t>(k.file) / 64 * 0x9e3779b97f4a7c15ULL + k.chunk; }
  };

  FlightPtr flight_locked(const LazyPtr& file, uint32_t chunk, Rank rank);
  void ahead_locked(const LazyPtr& file, const Readahead::Plan& plan);
  Readahead& readahead_locked(const LazyPtr& file);
  uint32_t window_locked(const LazyPtr& file);
  void pump();
  FlightPtr pick_locked();
  FlightPtr pick_whole_locked();
  void start(const FlightPtr& f);
  bool park(const FlightPtr& f, const Error& error);
  void send_get(const FlightPtr& f, const std::shared_ptr<Store>& store);
  void hurry(const LazyFile& file);
  bool become_demand_locked(const FlightPtr& f, const Status& status);
  void finish(const FlightPtr& f, Status status);
  void tell(const FlightPtr& f, const Status& status, const std::vector<GroupPtr>& ready);
  void whole_ended(const WholePtr& w);
  std::vector<GroupPtr> settle_locked(Flight& f, const Status& status);

  LazyFiles& files_;
  ObjectCache& cache_;
  const uint32_t connections_;
  const std::chrono::milliseconds wait_;
  Flights::StaleHandler stale_;
  mutable std::mutex mutex_;
  std::condition_variable idle_;
  std::unordered_map<Key, FlightPtr, KeyHash> flights_;
  std::unordered_map<uint64_t, GroupPtr> groups_;
  std::unordered_map<uint64_t, std::pair<std::weak_ptr<LazyFile>, Readahead>> readahead_;  // by handle
  std::deque<FlightPtr> queues_[2];  // demand, ahead: not started
  std::deque<FlightPtr> parked_;
  std::vector<WholePtr> wholes_;
  uint64_t next_ticket_ = 1;
  uint32_t running_ = 0;
  uint32_t running_behind_ = 0;  // ahead and fill
  uint32_t callbacks_ = 0;
  std::atomic<bool> stopping_{false};
};

}  // namespace larder
