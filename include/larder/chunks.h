// Lazy objects: objects too large to be fetched whole before open() returns. Drawing: docs/shared_memory.md, "Lazy
// objects".
//
// For each of them there are
//
//   <dataset id>/l/<object id>
//                            the handle: an empty directory. open() gives a program an ordinary O_RDONLY descriptor of
//                            it, so the kernel keeps the file position (shared over dup, fork, exec, SCM_RIGHTS) and
//                            refuses every reader that the library cannot intercept: read is EISDIR, mmap is ENODEV,
//                            also for root, io_uring, static children, and a descriptor opened again through /proc.
//   <dataset id>/l/<handle inode, hex>.map
//                            ChunkMap, mapped read-only by programs.
//   chunks/<dataset id>/<handle inode, hex>
//                            the data: a sparse file of the object's size. Only the library and larderd open it.
//
// When all chunks are there, larderd sets `whole` and renames the data file to chunks/<dataset id>/<object id>: an
// ordinary cache file, which lies there because chunks/ may be a file system of its own.
//
// Invariants:
//  1. All fields but `whole` and the words never change in the life of the file.
//  2. A word becomes PRESENT (release) after the bytes of its chunk are in the data file.
//  3. Before the daemon punches a chunk, it stores ABSENT with the next generation. A reader loads the word (acquire),
//     reads, and loads the word again: if anything but the mark changed, it discards what it read.
//  4. Once `whole` is 1, no chunk is punched.
//  5. Chunk i covers bytes [i << chunk_shift, min((i + 1) << chunk_shift, size)). All writes into the data file are
//     of whole pages, except the last: a page that a mapping finds is complete.
//
// Version history: 1 first.
#pragma once
#include <atomic>
#include <cstdint>

#include "larder/hash.h"

namespace larder {

inline constexpr uint64_t kChunkMapMagic = 0x314b4e4843444c4cULL;  // "LLDCHNK1"
inline constexpr uint32_t kChunkMapFormat = 1;

inline constexpr uint32_t kChunkPresent = 1;
inline constexpr uint32_t kChunkMark = 2;        // its reader tells larderd (kChunksAdvise) to fetch on
inline constexpr uint32_t kChunkGeneration = 4;  // +1 with every change of PRESENT

struct ChunkMap {
  uint64_t magic;
  uint32_t format;
  uint32_t chunk_shift;  // log2 of the bytes of a chunk; at least 12
  uint64_t dataset_id;
  ObjectId oid;
  uint64_t size;          // of the object, bytes
  int64_t mtime_ns;       // of the object
  uint64_t handle_inode;  // real inode number
  uint64_t data_inode;    // real inode number in the file system of chunks/
  uint32_t chunk_count;
  std::atomic<uint32_t> whole;
  uint64_t reserved[6];
  std::atomic<uint32_t> words[];
};
static_assert(sizeof(ChunkMap) == 128);
inline constexpr uint64_t chunk_map_bytes(uint32_t chunks) {
  return sizeof(ChunkMap) + uint64_t{chunks} * 4;
}

// True if a chunk stayed as it was between two loads of its word.
inline bool same_chunk(uint32_t before, uint32_t after) {
  return ((before ^ after) & ~kChunkMark) == 0;
}

}  // namespace larder
