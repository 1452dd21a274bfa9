// What the sources of ChunkFetcher share.
#pragma once
#include <optional>

#include "cached/fetch/chunk_fetcher.h"
#include "cached/fetch/chunk_writer.h"

namespace larder {

// Guarded by ChunkFetcher' lock. Of queue, parked and get one is set, but for a moment of fill.
struct ChunkFetcher::Flight {
  static constexpr int kNone = -1;
  LazyPtr file;
  uint32_t chunk = 0;
  Rank rank = kDemand;
  int queue = kNone;
  int64_t place = 0;  // in the queue
  bool parked = false;
  GetPtr get;
  std::vector<GroupPtr> groups;
  std::vector<WholePtr> wholes;
  std::optional<Clock::time_point> room_deadline;
};

// One GET of adjacent chunks. Only whoever runs it touches it, but for `behind`, which is fixed once it runs.
struct ChunkFetcher::Get {
  explicit Get(LazyPtr f) : file(std::move(f)) {}
  void add(const FlightPtr& f, const GetPtr& self) {
    f->get = self;
    flights.push_back(f);
  }
  uint32_t first() const { return flights.front()->chunk; }

  const LazyPtr file;
  std::vector<FlightPtr> flights;
  size_t landed = 0;    // of them
  bool behind = false;  // nobody waited when it began: counted in running_behind_
  std::optional<ChunkWriter> body;
};

// A GET that begins with `chunk` goes no farther.
inline uint32_t end_of_get(uint32_t chunk, uint32_t joined, uint32_t chunks) {
  return static_cast<uint32_t>(std::min<uint64_t>(chunks, (uint64_t{chunk} / joined + 1) * joined));
}

void log_failure(const LazyFile& file, uint32_t first, size_t count, const Error& error);

}  // namespace larder
