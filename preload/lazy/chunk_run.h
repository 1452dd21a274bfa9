// Chunks in a row that are in the cache: the check that every reader of a lazy object makes before and after it takes
// bytes. include/larder/chunks.h, invariant 3, says why twice. No state, no errno; any thread.
#pragma once
#include "larder/chunks.h"

namespace larder {

// The words of an object's chunk map, with what was read of the map when the object was opened: the mapping may come to
// show another object's map, and numbers taken from it then would lead out of it.
struct ChunkWords {
  const std::atomic<uint32_t>* words = nullptr;
  uint32_t shift = 0;  // log2 of the bytes of a chunk
  uint64_t size = 0;   // of the object, bytes

  uint64_t start_of(uint32_t chunk) const { return uint64_t{chunk} << shift; }
};

struct ChunkRun {
  static constexpr uint32_t kMost = 16;  // a look at the descriptor costs as much as copying 4 KiB

  uint32_t first = 0, count = 0;
  uint32_t words[kMost];  // as they were when the run was found
};

// The chunks from the one of `offset` on that are present, as far as they have bytes before `end`; none, if the first
// is absent. offset < size.
ChunkRun find_run(const ChunkWords& chunks, uint64_t offset, uint64_t end);

// How many of them, from the first on, are as they were. To be called after their bytes were read or shown.
uint32_t unchanged(const ChunkWords& chunks, const ChunkRun& run);

// Tells larderd of those before `end` that have a mark: the next chunks are due.
void tell_marks(const ChunkWords& chunks, const ChunkRun& run, uint64_t end, uint64_t dataset_id,
                uint64_t handle_inode);

}  // namespace larder
