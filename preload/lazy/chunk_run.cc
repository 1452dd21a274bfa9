#include "preload/lazy/chunk_run.h"

#include "preload/resolve/daemon_client.h"

namespace larder {

ChunkRun find_run(const ChunkWords& chunks, uint64_t offset, uint64_t end) {
  ChunkRun run;
  run.first = static_cast<uint32_t>(offset >> chunks.shift);
  if (end > chunks.size) end = chunks.size;
  while (run.count < ChunkRun::kMost && chunks.start_of(run.first + run.count) < end) {
    const uint32_t word = chunks.words[run.first + run.count].load(std::memory_order_acquire);
    if (!(word & kChunkPresent)) break;
    run.words[run.count++] = word;
  }
  return run;
}

uint32_t unchanged(const ChunkWords& chunks, const ChunkRun& run) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  uint32_t n = 0;
  while (n < run.count && same_chunk(run.words[n], chunks.words[run.first + n].load(std::memory_order_acquire)))
    ++n;
  return n;
}

void tell_marks(const ChunkWords& chunks, const ChunkRun& run, uint64_t end, uint64_t dataset_id,
                uint64_t handle_inode) {
  for (uint32_t i = 0; i < run.count && chunks.start_of(run.first + i) < end; ++i)
    if (run.words[i] & kChunkMark) advise_chunks(dataset_id, handle_inode, run.first + i, 1);
}

}  // namespace larder
