// The body of one GET of adjacent chunks of a lazy object: what arrives is written into the data file, in whole pages,
// and each chunk is told of as soon as its last byte is there, long before the GET ends. Called by one thread at a
// time.
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "cached/cache/body_hash.h"
#include "cached/cache/chunk_store.h"

namespace larder {

class ChunkWriter {
 public:
  // A chunk is written: its checksum (never 0) and its room. An error ends the GET.
  using Landed = std::function<Status(uint32_t chunk, uint64_t sum, Room room)>;

  // `rooms`: one for each chunk from `first` on, as large as the chunk is on disk.
  ChunkWriter(LazyPtr file, uint32_t first, std::vector<Room> rooms, ObjectCache& cache, Landed landed);

  uint64_t offset() const { return file_->chunk_offset(first_); }
  uint64_t length() const;
  // Bytes in order. EPROTO: more than was asked for. Writes into a full file system are tried again with room made;
  // then ENOSPC.
  Status take(std::span<const std::byte> bytes);
  // The store says that this was all. EIO: it was not.
  Status end() const;

 private:
  uint32_t end_chunk() const { return first_ + static_cast<uint32_t>(rooms_.size()); }
  Status take_of_chunk(std::span<const std::byte> piece, bool last);
  Status write(std::span<const std::byte> more);
  Status land();

  const LazyPtr file_;
  const uint32_t first_;
  std::vector<Room> rooms_;
  ObjectCache& cache_;
  const Landed landed_;
  uint32_t chunk_;                 // that is arriving
  uint64_t written_ = 0;           // of it
  std::vector<std::byte> buffer_;  // of it: arrived and not written yet, at a page's beginning
  BodyHash hash_;
};

}  // namespace larder
