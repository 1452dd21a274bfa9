// Reads one HTTP/1.1 reply from the bytes of a connection: head, then a body framed by Content-Length, chunks or the
// connection's end. The input is untrusted: a head of more than 64 KiB, text that is not HTTP, or a body that is framed
// in two ways is an error. Threads: one at a time.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "cached/store/http/attempt.h"

namespace larder {

class ReplyReader {
 public:
  using Sink = std::function<Status(std::span<const std::byte>)>;

  // Takes bytes of the head and returns how many; all of them until head_done(). An error is final.
  Result<size_t> take_head(std::string_view bytes, HttpReply& reply);
  bool head_done() const { return head_done_; }

  // Takes bytes of the body, removes the framing and gives the rest to `sink`. Returns how many bytes were used: fewer
  // than given only when the body is complete.
  Result<size_t> take_body(std::span<const std::byte> bytes, const Sink& sink);
  // The connection ended. True if that completes the body.
  bool at_end();
  bool complete() const { return head_done_ && framing_ == Framing::kNone; }

  // Bytes that are certain to come as they are (Content-Length); took() says that they were read elsewhere.
  uint64_t plain_left() const { return framing_ == Framing::kLength ? left_ : 0; }
  void took(uint64_t bytes);
  bool keeps_connection() const { return keep_; }

 private:
  enum class Framing { kNone, kLength, kChunked, kUntilEnd };  // kNone: no more to come
  enum class Chunk { kSize, kExtension, kData, kAfterData, kTrailer, kTrailerLine };
  Status parse(std::string_view head, HttpReply& reply);
  Status set_framing(const HttpReply& reply);
  Result<size_t> take_chunked(std::span<const std::byte> bytes, const Sink& sink);
  Status chunk_byte(char c);

  std::string head_;
  bool head_done_ = false;
  bool keep_ = true;
  Framing framing_ = Framing::kUntilEnd;
  uint64_t left_ = 0;
  Chunk chunk_ = Chunk::kSize;
  int size_digits_ = 0;
  uint64_t framing_bytes_ = 0;  // of chunk lines and trailers
};

}  // namespace larder
