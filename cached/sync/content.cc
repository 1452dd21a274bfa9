#include "cached/sync/content.h"

#include <fmt/format.h>

#include <cstring>
#include <memory>
#include <optional>

#include "cached/store/checksum/etag_check.h"

namespace larder {
namespace {

constexpr uint64_t kPiece = 8 << 20;

struct Side {
  Endpoint& end;
  const ObjectInfo& object;
};

// Calls `take` with the object's bytes in order, at most kPiece at a time; false from it ends the reading.
Status read_all(const Side& side, uint64_t offset, uint64_t length, RateLimit& rate,
                const std::function<bool(uint64_t, Bytes)>& take) {
  const auto buffer = std::make_unique_for_overwrite<std::byte[]>(std::min(length, kPiece));
  for (uint64_t done = 0; done < length;) {
    const std::span<std::byte> piece(buffer.get(), std::min(kPiece, length - done));
    rate.wait(piece.size());
    if (auto status = side.end.read(side.object, offset + done, piece); !status.ok()) return status;
    if (!take(offset + done, piece)) return {};
    done += piece.size();
  }
  return {};
}

Result<bool> same_bytes(const Side& a, const Side& b, RateLimit& rate) {
  bool same = true;
  Status failed;
  const auto buffer = std::make_unique_for_overwrite<std::byte[]>(std::min(b.object.size, kPiece));
  auto status = read_all(a, 0, a.object.size, rate, [&](uint64_t offset, Bytes data) {
    const std::span<std::byte> other(buffer.get(), data.size());
    failed = b.end.read(b.object, offset, other);
    same = failed.ok() && memcmp(other.data(), data.data(), data.size()) == 0;
    return same;
  });
  if (!status.ok()) return status.error();
  if (!failed.ok()) return failed.error();
  return same;
}

// `known` has an etag that is a sum of its content; `other` must be read. No answer: `known` must be read, too.
Result<std::optional<bool>> by_etag(const ObjectInfo& known, const Side& other, RateLimit& rate) {
  EtagCheck check(known.etag, known.size);
  if (!check.tells()) return std::optional<bool>();
  auto status = read_all(other, 0, other.object.size, rate, [&](uint64_t, Bytes data) {
    check.update(data);
    return true;
  });
  if (!status.ok()) return status.error();
  const bool same = check.matches();
  if (same || is_md5_etag(known.etag)) return std::optional<bool>(same);
  return std::optional<bool>();  // a difference may be one of the part size
}

}  // namespace

Result<bool> same_content(Endpoint& a, const ObjectInfo& of_a, Endpoint& b, const ObjectInfo& of_b, RateLimit& rate) {
  if (of_a.size != of_b.size) return false;
  if (of_a.size == 0) return true;
  const Side sides[2] = {{a, of_a}, {b, of_b}};
  if (!a.is_directory() && !b.is_directory()) {
    const auto md5_a = md5_of_etag(of_a.etag), md5_b = md5_of_etag(of_b.etag);
    if (md5_a && md5_b) return *md5_a == *md5_b;
    if (of_a.etag.size() > 32 && of_a.etag == of_b.etag) return true;  // MD5 of the same parts
  }
  for (int known : {0, 1}) {
    if (sides[known].end.is_directory()) continue;
    auto same = by_etag(sides[known].object, sides[1 - known], rate);
    if (!same.ok()) return same.error();
    if (*same) return **same;
  }
  return same_bytes(sides[0], sides[1], rate);
}

}  // namespace larder
