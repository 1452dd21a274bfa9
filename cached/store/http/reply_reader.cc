#include "cached/store/http/reply_reader.h"

#include <algorithm>
#include <charconv>

#include "cached/base/text.h"

namespace larder {
namespace {

constexpr size_t kMaxHead = 64 * 1024;

Error bad(std::string_view what) {
  return make_error(EPROTO, "not an HTTP reply: " + std::string(what));
}

}  // namespace

Result<size_t> ReplyReader::take_head(std::string_view bytes, HttpReply& reply) {
  const size_t before = head_.size();
  if (before > 0) head_.append(bytes);
  const std::string_view all = before > 0 ? std::string_view(head_) : bytes;
  size_t begin = 0;  // of the head that counts: after heads of 100 Continue and the like
  for (;;) {
    const size_t end = all.find("\r\n\r\n", std::max(begin, before > 3 ? before - 3 : 0));
    if (end == std::string::npos) break;
    if (auto status = parse(all.substr(begin, end + 2 - begin), reply); !status.ok()) return status.error();
    begin = end + 4;
    if (reply.status / 100 == 1) continue;
    if (auto status = set_framing(reply); !status.ok()) return status.error();
    head_done_ = true;
    const size_t used = begin - before;
    head_ = {};
    return used;
  }
  if (before > 0)
    head_.erase(0, begin);
  else
    head_ = all.substr(begin);
  if (head_.size() > kMaxHead) return bad("its head is too large");
  return bytes.size();
}

Status ReplyReader::parse(std::string_view head, HttpReply& reply) {
  reply.headers.clear();
  const size_t line_end = head.find("\r\n");
  const std::string_view first = head.substr(0, line_end);
  if (first.size() < 12 || !first.starts_with("HTTP/1.") || first[8] != ' ' || (first.size() > 12 && first[12] != ' '))
    return bad("its first line is something else");
  auto [end, failure] = std::from_chars(first.data() + 9, first.data() + 12, reply.status);
  if (failure != std::errc() || end != first.data() + 12 || reply.status < 100) return bad("it has no status");
  keep_ = first[7] != '0';
  for (size_t at = line_end + 2; at < head.size();) {
    const size_t stop = head.find("\r\n", at);
    const std::string_view line = head.substr(at, stop - at);
    at = stop + 2;
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos || colon == 0 || line[0] == ' ' || line[0] == '\t')
      return bad("a header is none");
    reply.headers.add(line.substr(0, colon), trimmed(line.substr(colon + 1)));
  }
  return {};
}

Status ReplyReader::set_framing(const HttpReply& reply) {
  const std::string connection = lower_case(reply.header("connection"));
  if (connection == "close") keep_ = false;
  if (connection == "keep-alive") keep_ = true;
  const std::string coding = lower_case(reply.header("transfer-encoding"));
  std::string_view length;
  for (size_t i = 0; i < reply.headers.size(); ++i) {
    if (reply.headers.name(i) != "content-length") continue;
    if (!length.empty() && length != reply.headers.value(i)) return bad("two lengths");
    length = reply.headers.value(i);
  }
  if (reply.status == 204 || reply.status == 304) {
    framing_ = Framing::kNone;
  } else if (!coding.empty()) {
    if (coding != "chunked") return bad("an unknown Transfer-Encoding");
    if (!length.empty()) return bad("chunks and a length");
    framing_ = Framing::kChunked;
  } else if (!length.empty()) {
    auto [end, failure] = std::from_chars(length.data(), length.data() + length.size(), left_);
    if (failure != std::errc() || end != length.data() + length.size()) return bad("its length is no number");
    framing_ = left_ == 0 ? Framing::kNone : Framing::kLength;
  } else {
    keep_ = false;
  }
  return {};
}

void ReplyReader::took(uint64_t bytes) {
  left_ -= std::min(bytes, left_);
  if (left_ == 0) framing_ = Framing::kNone;
}

Result<size_t> ReplyReader::take_body(std::span<const std::byte> bytes, const Sink& sink) {
  if (framing_ == Framing::kNone) return size_t{0};
  if (framing_ == Framing::kChunked) return take_chunked(bytes, sink);
  const size_t n =
      framing_ == Framing::kUntilEnd ? bytes.size() : static_cast<size_t>(std::min<uint64_t>(left_, bytes.size()));
  if (n == 0) return n;
  if (auto status = sink(bytes.first(n)); !status.ok()) return status.error();
  if (framing_ == Framing::kLength) took(n);
  return n;
}

Result<size_t> ReplyReader::take_chunked(std::span<const std::byte> bytes, const Sink& sink) {
  size_t at = 0;
  while (at < bytes.size() && framing_ != Framing::kNone) {
    if (chunk_ != Chunk::kData) {
      if (auto status = chunk_byte(static_cast<char>(bytes[at++])); !status.ok()) return status.error();
      continue;
    }
    const size_t n = static_cast<size_t>(std::min<uint64_t>(left_, bytes.size() - at));
    if (auto status = sink(bytes.subspan(at, n)); !status.ok()) return status.error();
    at += n;
    left_ -= n;
    if (left_ == 0) chunk_ = Chunk::kAfterData;
  }
  return at;
}

// One byte of what stands around the chunks: "1f;ext\r\n" data "\r\n" ... "0\r\n" trailers "\r\n".
Status ReplyReader::chunk_byte(char c) {
  if (++framing_bytes_ > (uint64_t{1} << 30)) return bad("chunks without an end");
  switch (chunk_) {
    case Chunk::kSize: {
      const int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
      if (digit >= 0) {
        if (++size_digits_ > 15) return bad("a chunk is too large");
        left_ = left_ * 16 + static_cast<uint64_t>(digit);
        return {};
      }
      if (size_digits_ == 0) return bad("a chunk has no size");
      chunk_ = Chunk::kExtension;
      [[fallthrough]];
    }
    case Chunk::kExtension:
      if (c != '\n') return {};
      size_digits_ = 0;
      chunk_ = left_ > 0 ? Chunk::kData : Chunk::kTrailer;
      return {};
    case Chunk::kAfterData:
      if (c != '\r' && c != '\n') return bad("a chunk is longer than it says");
      if (c == '\n') chunk_ = Chunk::kSize;
      return {};
    case Chunk::kTrailer:  // at the start of a line
      if (c == '\n') framing_ = Framing::kNone;
      if (c != '\r' && c != '\n') chunk_ = Chunk::kTrailerLine;
      return {};
    case Chunk::kTrailerLine:
      if (c == '\n') chunk_ = Chunk::kTrailer;
      return {};
    case Chunk::kData:
      break;
  }
  return {};
}

bool ReplyReader::at_end() {
  if (head_done_ && framing_ == Framing::kUntilEnd) framing_ = Framing::kNone;
  return complete();
}

}  // namespace larder
