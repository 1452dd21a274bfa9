// ObjectFetcher of chunks: one flight a chunk, however many wait for it. Demand goes first, then what is fetched ahead
// of sequential readers, then background work. Chunks that are wanted at the same time and lie side by side are fetched
// by one GET (cached/fetch/chunk_writer.h); each is there, and who waits for it is told, when its own bytes are. A GET
// ends at a multiple of ChunkStore::joined(), so a chunk that somebody begins to wait for while it is under way is
// never more than that away. Thread-safe; callbacks run without locks held.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "cached/cache/chunk_store.h"
#include "cached/fetch/object_fetcher.h"
#include "cached/fetch/readahead.h"

namespace larder {

class ChunkWriter;

class ChunkFetcher {
 public:
  using Done = std::function<void(const Status&)>;

  ChunkFetcher(ChunkStore& files, ObjectCache& cache, uint32_t connections, uint32_t wait_ms);
  ~ChunkFetcher();
  void on_stale(ObjectFetcher::StaleHandler handler) { stale_ = std::move(handler); }

  // A program waits for the first `waits` of [first, first + count); the others are wanted next, and may be left out.
  // `done` is called exactly once, unless cancelled; perhaps before this returns.
  uint64_t want(const LazyPtr& file, uint32_t first, uint32_t count, uint32_t waits, Done done);
  void cancel(uint64_t ticket);
  // A program came by marked chunks, or says that it will read them.
  void passed(const LazyPtr& file, uint32_t chunk);
  void advise(const LazyPtr& file, uint32_t first, uint32_t count);
  // All of it, until it is an ordinary cache file. `demand`: a program waits; else errors as ObjectFetcher' background
  // work (ENOSPC).
  void fetch_whole(const LazyPtr& file, bool demand, Done done);

  // Tries those again that wait for room; ends those that waited too long. Call every 20 ms or so.
  void tick();
  uint32_t in_flight() const;  // GETs
  bool stop(std::chrono::milliseconds limit);

 private:
  using Clock = std::chrono::steady_clock;
  enum Rank { kDemand, kAhead, kFill };
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
    uint32_t running = 0;  // chunks
    Status status;
    Done done;
  };
  using GroupPtr = std::shared_ptr<Group>;
  using WholePtr = std::shared_ptr<Whole>;
  struct Get;
  using GetPtr = std::shared_ptr<Get>;
  struct Flight;  // in one of queues_, in parked_, or of a GET
  using FlightPtr = std::shared_ptr<Flight>;
  using Queue = std::map<int64_t, FlightPtr>;  // by place: the smallest goes first
  struct Key {
    const LazyFile* file;
    uint32_t chunk;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    size_t operator()(const Key& k) const {
      return reinterpret_cast<uintptr_t>(k.file) / 64 * 0x9e3779b97f4a7c15ULL + k.chunk;
    }
  };

  // ---- asking
  FlightPtr flight_locked(const LazyPtr& file, uint32_t chunk, Rank rank);
  FlightPtr find_locked(const LazyPtr& file, uint32_t chunk) const;
  void enqueue_locked(const FlightPtr& f, Rank rank, int64_t place);
  static bool is_queued(const Flight& f);
  void dequeue_locked(Flight& f);
  void ahead_locked(const LazyPtr& file, uint32_t first, uint32_t count);
  void follow_locked(const LazyPtr& file, const Readahead::Plan& plan);
  Readahead& readahead_locked(const LazyPtr& file);
  Readahead::Limits limits_locked(const LazyPtr& file);
  uint32_t streams_locked(Clock::time_point now);
  void hurry(const LazyFile& file);

  // ---- starting
  void pump();
  GetPtr pick_locked();
  GetPtr pick_whole_locked();
  void add_to_whole_locked(const WholePtr& w, const GetPtr& get);
  bool may_run_behind_locked() const;
  void start(const GetPtr& get);
  std::vector<Room> admit(const Get& get, Error* refused);
  void refuse(const std::vector<FlightPtr>& flights, const Error& error, bool behind);
  bool park(const FlightPtr& f, const Error& error);
  void send_get(const GetPtr& get, const std::shared_ptr<Store>& store);

  // ---- landing
  Status landed(Get& get, uint32_t chunk, uint64_t sum, Room room);
  void ended(const GetPtr& get, Status status);
  void free_slot(const Get& get);
  void settle(const std::vector<FlightPtr>& flights, const Status& status, bool behind);
  void settle_locked(Flight& f, const Status& status, std::vector<GroupPtr>* ready);
  bool become_demand_locked(const FlightPtr& f, const Status& status, bool behind);
  static void tell(const std::vector<GroupPtr>& ready, const Status& status);
  void report(const Get& get, const Error& error);
  void end_wholes();
  void whole_ended(const WholePtr& w);

  ChunkStore& files_;
  ObjectCache& cache_;
  const uint32_t connections_;
  const std::chrono::milliseconds wait_;
  ObjectFetcher::StaleHandler stale_;
  mutable std::mutex mutex_;
  std::condition_variable idle_;
  std::unordered_map<Key, FlightPtr, KeyHash> flights_;
  std::unordered_map<uint64_t, GroupPtr> groups_;
  std::unordered_map<uint64_t, std::pair<std::weak_ptr<LazyFile>, Readahead>> readahead_;  // by handle
  uint32_t streams_ = 0;
  Clock::time_point streams_counted_{};
  Queue queues_[2];  // demand, ahead: not started
  int64_t first_place_ = 0, last_place_ = 0;
  std::vector<FlightPtr> parked_;  // wait for room
  std::vector<WholePtr> wholes_;
  uint64_t next_ticket_ = 1;
  uint32_t running_ = 0;         // GETs
  uint32_t running_behind_ = 0;  // for nobody who waits
  uint32_t callbacks_ = 0;
  std::atomic<bool> stopping_{false};
};

}  // namespace larder
