// Sequential readers of one lazy object, told by the chunks they ask for, and what to fetch ahead of them. As the kernel's
// readahead: a window that doubles while the reader goes on, and a mark in its middle; whoever reads the marked chunk says so, and
// the next window starts before the reader has to wait. Not thread-safe.
#pragma once
#include <array>
#include <chrono>
#include <cstdint>

namespace larder {

class Readahead {
 public:
  using Clock = std::chrono::steady_clock;
  struct Plan {
    uint32_t first = 0, count = 0;  // chunks to fetch; count 0: none
    uint32_t mark = UINT32_MAX;     // chunk to mark
  };

  // A reader waits for chunks [first, first + count) of `chunks`. `longest`: chunks ahead at most.
  Plan asked(uint32_t first, uint32_t count, uint32_t chunks, uint32_t longest, Clock::time_point now);
  // A reader came by a marked chunk.
  Plan passed(uint32_t chunk, uint32_t chunks, uint32_t longest, Clock::time_point now);
  // Streams that were active within a second.
  uint32_t active(Clock::time_point now) const;

 private:
  struct Stream {
    uint32_t next = 0;    // the chunk after the last one that was asked for
    uint32_t end = 0;     // fetched ahead up to here
    uint32_t window = 0;
    uint32_t run = 0;     // requests in order
    Clock::time_point last{};
  };
  Stream* find(uint32_t chunk);
  Stream& oldest();
  static Plan go_on(Stream& s, uint32_t next, uint32_t chunks, uint32_t longest);

  std::array<Stream, 16> streams_{};
};

}  // namespace larder
