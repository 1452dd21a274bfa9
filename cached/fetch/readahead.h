// Sequential readers of one lazy object, told by the chunks they ask for, and what to fetch ahead of them. As the
// kernel's readahead: a window that grows while the reader goes on, and a mark in its middle; whoever reads the marked
// chunk says so, and the next window starts before the reader has to wait. Windows are bytes, whatever a chunk is. Not
// thread-safe.
#pragma once
#include <array>
#include <chrono>
#include <cstdint>

namespace larder {

class Readahead {
 public:
  using Clock = std::chrono::steady_clock;
  // Of the object, and what may be fetched ahead of one reader now.
  struct Limits {
    uint32_t chunks;  // of the object
    uint32_t chunk_bytes;
    uint32_t joined;   // chunks that one GET fetches: windows that are longer end where one ends
    uint64_t longest;  // bytes ahead of a reader
  };
  struct Plan {
    uint32_t first = 0, count = 0;  // chunks to fetch; count 0: none
    uint32_t mark = UINT32_MAX;     // chunk to mark
  };

  // A reader waits for chunks [first, first + count). `coming`: the first is on its way. If it should be and is not,
  // what was fetched ahead is gone.
  Plan asked(uint32_t first, uint32_t count, bool coming, const Limits& limits, Clock::time_point now);
  // A reader came by a marked chunk.
  Plan passed(uint32_t chunk, const Limits& limits, Clock::time_point now);
  // Sequential readers that were active within a second.
  uint32_t active(Clock::time_point now) const;

 private:
  struct Stream {
    uint32_t from = 0;  // [from, next): what was asked for last
    uint32_t next = 0;
    uint32_t end = 0;     // fetched ahead up to here
    uint32_t run = 0;     // requests in order
    uint64_t window = 0;  // bytes
    Clock::time_point last{};
  };
  Stream* find(uint32_t chunk);
  Stream& oldest();
  static void grow(Stream& s, const Limits& limits);
  static Plan go_on(Stream& s, uint32_t next, const Limits& limits);

  std::array<Stream, 16> streams_{};
};

}  // namespace larder
