// The chunks that the pager asks larderd for: a few at a time, each retried until its file's wait_ms have passed
// without a sign of life. Only the pager's thread uses it.
#pragma once
#include <poll.h>
#include <stdint.h>

namespace larder {

inline constexpr uint32_t kFetches = 48;  // chunks asked for at a time

struct ChunkFetches {
  // Called when a fetch has ended: the chunk is there, or it never will be. It may call any function of this class.
  using Ended = void (*)(uint32_t file, uint32_t chunk, bool arrived);

  // Asks for a chunk of PagedFiles' entry `file`, unless that is under way. False: too many fetches are under way.
  static bool want(uint32_t file, uint32_t chunk);

  static void forget_file(uint32_t file);
  // For a fork's child: the sockets are in another table of descriptors.
  static void forget_all();

  // Sends requests that are due. Fills `polled` with the sockets to wait for (at most kFetches) and returns their
  // number; lowers *due_ms to the time of the next step, if that is earlier.
  static nfds_t prepare(struct pollfd* polled, int64_t* due_ms, Ended ended);
  // Call it after poll.
  static void finish(const struct pollfd* polled, nfds_t count, Ended ended);
};

}  // namespace larder
