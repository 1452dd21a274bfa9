// ChunkFetcher: chunks of lazy objects, one flight a chunk, however many wait for it. Demand goes first, then what is
// fetched ahead of sequential readers, then objects that are fetched whole; the latter two have at most three quarters
// of the connections. Chunks that are wanted at the same time and lie side by side are fetched by one GET
// (cached/fetch/chunk_writer.h); each is there, and who waits for it is told, when its own bytes are. A GET ends at a
// multiple of ChunkStore::joined(), so a chunk that somebody begins to wait for while it is under way is never more
// than that away.
//
// Thread-safe; callbacks run without locks held, on the store's threads, the caller's, or the one that calls tick().
// Sources: chunk_fetcher.cc (who wants what, and what goes into one GET), chunk_landing.cc (room, and what becomes of a
// GET).
#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "cached/fetch/chunk_flight.h"
#include "cached/fetch/fetch_scheduler.h"
#include "cached/fetch/readahead.h"

namespace larder {

class ChunkFetcher : public FetchScheduler<ChunkFlight, ChunkGet> {
 public:
  using Done = ChunksDone;

  ChunkFetcher(ChunkStore& files, ObjectCache& cache, uint32_t connections, uint32_t wait_ms);

  // A program waits for the first `waits` of [first, first + count); the others are wanted next, and may be left out.
  // `done` is called exactly once, unless cancelled; perhaps before this returns. Errors: the store's; ESTALE: the
  // object has changed; EIO: no room came free in wait_ms.
  uint64_t want(const LazyPtr& file, uint32_t first, uint32_t count, uint32_t waits, Done done) EXCLUDES(mutex_);
  // The waiter has gone. Its chunks come all the same: another reader is likely.
  void cancel(uint64_t ticket) EXCLUDES(mutex_);
  // A program came by marked chunks, or says that it will read them.
  void passed(const LazyPtr& file, uint32_t chunk) EXCLUDES(mutex_);
  void advise(const LazyPtr& file, uint32_t first, uint32_t count) EXCLUDES(mutex_);
  // Could an object of this size be whole in the cache? fetch_whole()'s errors.
  Status could_be_whole(const Object& object, bool demand) const;
  // All of it, until it is an ordinary cache file. `demand`: a program waits, and EFBIG says that the object is larger
  // than the cache; otherwise that, and a full cache, is ENOSPC.
  void fetch_whole(const LazyPtr& file, bool demand, Done done) EXCLUDES(mutex_);

 private:
  using GroupPtr = std::shared_ptr<ChunkGroup>;
  using WholePtr = std::shared_ptr<WholeFetch>;
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
  FlightPtr find_locked(const LazyPtr& file, uint32_t chunk) const REQUIRES(mutex_);
  FlightPtr flight_locked(const LazyPtr& file, uint32_t chunk, Rank rank) REQUIRES(mutex_);
  bool wait_locked(const GroupPtr& group, const LazyPtr& file, uint32_t first, uint32_t count) REQUIRES(mutex_);
  void ahead_locked(const LazyPtr& file, uint32_t first, uint32_t count) REQUIRES(mutex_);
  void follow_locked(const LazyPtr& file, const Readahead::Plan& plan) REQUIRES(mutex_);
  Readahead& readahead_locked(const LazyPtr& file) REQUIRES(mutex_);
  Readahead::Limits limits_locked(const LazyPtr& file) REQUIRES(mutex_);
  uint32_t streams_locked(Clock::time_point now) REQUIRES(mutex_);

  // ---- whole objects
  void add_to_whole_locked(const WholePtr& w, const GetPtr& get) REQUIRES(mutex_);
  void end_wholes() EXCLUDES(mutex_);
  void whole_ended(const WholePtr& w) EXCLUDES(mutex_);

  // ---- FetchScheduler
  GetPtr begin_locked(FlightPtr first) override REQUIRES(mutex_);
  GetPtr begin_fill_locked() override REQUIRES(mutex_);
  void start(const GetPtr& get) override EXCLUDES(mutex_);
  Status take(ChunkGet& get, std::span<const std::byte> bytes) override { return get.body->take(bytes); }
  void came(const GetPtr& get, Status status) override EXCLUDES(mutex_);
  void give_up(const std::vector<FlightPtr>& flights, const Error& error) override EXCLUDES(mutex_);
  void pumped() override EXCLUDES(mutex_) { end_wholes(); }

  // ---- landing
  std::vector<Room> admit(const ChunkGet& get, Error* refused) EXCLUDES(mutex_);
  void refuse(const std::vector<FlightPtr>& flights, const Error& error, bool background) EXCLUDES(mutex_);
  Status landed(ChunkGet& get, uint32_t chunk, uint64_t sum, Room room) EXCLUDES(mutex_);
  void ended(const GetPtr& get, const Status& status) EXCLUDES(mutex_);
  void settle(const std::vector<FlightPtr>& flights, const Status& status, bool background) EXCLUDES(mutex_);
  void settle_locked(ChunkFlight& f, const Status& status, std::vector<GroupPtr>* ready) REQUIRES(mutex_);
  static void tell(const std::vector<GroupPtr>& ready, const Status& status);

  ChunkStore& files_;
  std::unordered_map<Key, FlightPtr, KeyHash> flights_ GUARDED_BY(mutex_);
  std::unordered_map<uint64_t, GroupPtr> groups_ GUARDED_BY(mutex_);  // by ticket
  std::vector<WholePtr> wholes_ GUARDED_BY(mutex_);
  std::unordered_map<uint64_t, std::pair<std::weak_ptr<LazyFile>, Readahead>> readahead_
      GUARDED_BY(mutex_);  // by handle
  uint32_t streams_ GUARDED_BY(mutex_) = 0;
  Clock::time_point streams_counted_ GUARDED_BY(mutex_){};
};

}  // namespace larder
