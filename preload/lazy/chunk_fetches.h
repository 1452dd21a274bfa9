// The chunks that the pager has asked larderd for: a few at a time, each tried again until its file's wait_ms have
// passed. Only the pager's thread uses it.
#pragma once
#include <poll.h>
#include <stdint.h>

namespace larder {

inline constexpr uint32_t kFetches = 48;  // chunks asked for at a time

struct ChunkFetches {
  // Called when one has ended: the chunk is there, or it never will be. May call anything here.
  using Ended = void (*)(uint32_t file, uint32_t chunk, bool arrived);

  // Asks for a chunk of PagedFiles' entry `file`, if nobody did. False: too many are under way.
  static bool want(uint32_t file, uint32_t chunk);

  static void forget_file(uint32_t file);
  // In a fork's child: their sockets are in another table of descriptors.
  static void forget_all();

  // Sends what is due. Fills `polled` with the sockets that are waited for (at most kFetches); *due_ms becomes the time
  // of the next thing to do, if that is earlier. How many.
  static nfds_t prepare(struct pollfd* polled, int64_t* due_ms, Ended ended);
  // After poll.
  static void finish(const struct pollfd* polled, nfds_t count, Ended ended);
};

}  // namespace larder
