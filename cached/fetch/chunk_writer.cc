#include "cached/fetch/chunk_writer.h"

#include <fmt/format.h>
#include <sys/uio.h>

#include <algorithm>

namespace larder {

static constexpr size_t kPage = 4096;  // writes are of whole pages: what a mapping finds is complete
static constexpr size_t kLeastWrite =
    64 * 1024;  // less is gathered first: a system call costs as much as copying 16 KiB
static constexpr int kFullRetries = 4;

// Both, one after the other, at an offset of the file.
static Status pwritev_all(int fd, std::span<const std::byte> first, std::span<const std::byte> second,
                          uint64_t offset) {
  while (!first.empty() || !second.empty()) {
    struct iovec parts[2] = {{const_cast<std::byte*>(first.data()), first.size()},
                             {const_cast<std::byte*>(second.data()), second.size()}};
    ssize_t n = ::pwritev(fd, parts, 2, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return os_error("cannot write", n < 0 ? errno : ENOSPC);
    size_t of_first = std::min(first.size(), static_cast<size_t>(n));
    first = first.subspan(of_first);
    second = second.subspan(static_cast<size_t>(n) - of_first);
    offset += static_cast<uint64_t>(n);
  }
  return {};
}

ChunkWriter::ChunkWriter(LazyPtr file, uint32_t first, std::vector<Room> rooms, ObjectCache& cache, Landed landed)
    : file_(std::move(file)),
      first_(first),
      rooms_(std::move(rooms)),
      cache_(cache),
      landed_(std::move(landed)),
      chunk_(first) {}

uint64_t ChunkWriter::length() const {
  const uint32_t last = end_chunk() - 1;
  return file_->chunk_offset(last) + file_->chunk_length(last) - offset();
}

Status ChunkWriter::take(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (chunk_ == end_chunk())
      return make_error(EPROTO, fmt::format("the store sent more than the {} bytes that were asked for", length()));
    const uint64_t missing = file_->chunk_length(chunk_) - written_ - buffer_.size();
    const auto piece = bytes.first(static_cast<size_t>(std::min<uint64_t>(missing, bytes.size())));
    bytes = bytes.subspan(piece.size());
    if (Status s = take_of_chunk(piece, piece.size() == missing); !s) return s;
  }
  return {};
}

// Whole pages go on from where they arrived; what is left of the last one waits for its rest.
Status ChunkWriter::take_of_chunk(std::span<const std::byte> piece, bool last) {
  if (last) {
    Status s = write(piece);
    return s ? land() : s;
  }
  const size_t have = buffer_.size() + piece.size();
  if (have >= kLeastWrite) {
    const size_t now = have / kPage * kPage - buffer_.size();
    if (Status s = write(piece.first(now)); !s) return s;
    piece = piece.subspan(now);
  }
  if (buffer_.capacity() == 0) buffer_.reserve(kLeastWrite);
  buffer_.insert(buffer_.end(), piece.begin(), piece.end());
  return {};
}

// Writes `buffer_` and then `more`.
Status ChunkWriter::write(std::span<const std::byte> more) {
  const size_t bytes = buffer_.size() + more.size();
  auto once = [&] { return pwritev_all(file_->data_fd(), buffer_, more, file_->chunk_offset(chunk_) + written_); };
  Status s = once();
  for (int i = 0; !s && s.error().code == ENOSPC && i < kFullRetries && cache_.make_space(bytes); ++i)
    s = once();
  if (!s) return s;
  hash_.update(buffer_);
  hash_.update(more);
  written_ += bytes;
  rooms_[chunk_ - first_].wrote(bytes);
  buffer_.clear();
  return {};
}

Status ChunkWriter::land() {
  const uint64_t sum = hash_.value();
  const uint32_t chunk = chunk_++;
  written_ = 0;
  hash_.reset();
  return landed_(chunk, sum ? sum : 1, std::move(rooms_[chunk - first_]));
}

Status ChunkWriter::end() const {
  if (chunk_ == end_chunk()) return {};
  return make_error(EIO, fmt::format("the store sent {} of {} bytes",
                                     file_->chunk_offset(chunk_) - offset() + written_ + buffer_.size(), length()));
}

}  // namespace larder
