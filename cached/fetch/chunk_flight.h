// What is under way in ChunkFetcher: chunks, the GETs that bring them, and who waits. Guarded by its lock, but for what
// a GET alone touches (ScheduledGet).
#pragma once
#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "cached/cache/chunk_store.h"
#include "cached/fetch/chunk_writer.h"
#include "cached/fetch/fetch_scheduler.h"

namespace larder {

using ChunksDone = std::function<void(const Status&)>;

// The chunks that one want() waits for.
struct ChunkGroup {
  uint64_t ticket = 0;
  uint32_t left = 0;
  Status status;
  ChunksDone done;
};

// One fetch_whole().
struct WholeFetch {
  LazyPtr file;
  bool demand = false;
  uint32_t next = 0;     // chunk to look at
  uint32_t running = 0;  // chunks
  Status status;
  ChunksDone done;
};

struct ChunkGet;

// One chunk that is absent and wanted.
struct ChunkFlight : Scheduled<ChunkGet> {
  uint64_t dataset() const { return file->object.dataset->id(); }
  bool waited_for() const {
    return !groups.empty() || std::any_of(wholes.begin(), wholes.end(), [](auto& w) { return w->demand; });
  }

  LazyPtr file;
  uint32_t chunk = 0;
  std::vector<std::shared_ptr<ChunkGroup>> groups;
  std::vector<std::shared_ptr<WholeFetch>> wholes;
};

// One GET of adjacent chunks.
struct ChunkGet : ScheduledGet<ChunkFlight> {
  explicit ChunkGet(LazyPtr f) : file(std::move(f)) {}
  const Object& object() const { return file->object; }
  uint32_t first() const { return flights.front()->chunk; }
  // What has not landed.
  std::vector<std::shared_ptr<ChunkFlight>> left() const {
    return {flights.begin() + static_cast<ptrdiff_t>(landed), flights.end()};
  }

  const LazyPtr file;
  size_t landed = 0;  // of `flights`
  std::optional<ChunkWriter> body;
};

}  // namespace larder
