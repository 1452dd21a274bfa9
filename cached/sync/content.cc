#include "cached/sync/content.h"

#include <fmt/format.h>

#include <charconv>
#include <cstring>
#include <memory>

#include "cached/store/digest.h"
#include "cached/store/s3_write.h"
#include "cached/sync/compare.h"

namespace larder {
namespace {

constexpr uint64_t kPiece = 8 << 20;
constexpr uint64_t kMiB = 1 << 20;

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

Result<std::string> md5_of(const Side& side, uint64_t offset, uint64_t length, RateLimit& rate) {
  Md5Stream md5;
  auto status = read_all(side, offset, length, rate, [&](uint64_t, Bytes data) {
    md5.update(data);
    return true;
  });
  if (!status.ok()) return status.error();
  return hex(md5.finish());
}

// "...-N": the size of the parts, if one of those that tools use gives N of them; else 0.
uint64_t guessed_part_bytes(const std::string& etag, uint64_t size) {
  const size_t dash = etag.find('-');
  if (dash != 32) return 0;
  uint64_t parts = 0;
  auto [end, failure] = std::from_chars(etag.data() + dash + 1, etag.data() + etag.size(), parts);
  if (failure != std::errc() || end != etag.data() + etag.size() || parts == 0) return 0;
  // Ours and the AWS tools', rclone's, s5cmd's, and powers of two.
  for (uint64_t bytes :
       {upload_part_bytes(size), 5 * kMiB, 50 * kMiB, 15 * kMiB, 16 * kMiB, 32 * kMiB, 64 * kMiB, 128 * kMiB}) {
    if ((size + bytes - 1) / bytes == parts) return bytes;
  }
  return 0;
}

Result<bool> has_composite(const Side& side, const std::string& etag, uint64_t part_bytes, RateLimit& rate) {
  std::vector<PartInfo> parts;
  for (uint64_t at = 0; at < side.object.size; at += part_bytes) {
    const uint64_t length = std::min(part_bytes, side.object.size - at);
    auto md5 = md5_of(side, at, length, rate);
    if (!md5.ok()) return md5.error();
    parts.push_back({static_cast<int>(parts.size() + 1), length, *md5});
  }
  return s3_composite_etag(parts) == etag;
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

// `known` has an etag that tells of its content, `other` must be read. No answer: reading `known`, too, tells.
Result<std::optional<bool>> by_etag(const ObjectInfo& known, const Side& other, RateLimit& rate) {
  if (const std::string wanted = md5_of_etag(known.etag); !wanted.empty()) {
    auto md5 = md5_of(other, 0, other.object.size, rate);
    if (!md5.ok()) return md5.error();
    return std::optional<bool>(*md5 == wanted);
  }
  const uint64_t part_bytes = guessed_part_bytes(known.etag, known.size);
  if (part_bytes == 0) return std::optional<bool>();
  auto same = has_composite(other, known.etag, part_bytes, rate);
  if (!same.ok()) return same.error();
  return *same ? std::optional<bool>(true) : std::nullopt;  // a difference may be one of the part size
}

}  // namespace

Result<bool> same_content(Endpoint& a, const ObjectInfo& of_a, Endpoint& b, const ObjectInfo& of_b, RateLimit& rate) {
  if (of_a.size != of_b.size) return false;
  if (of_a.size == 0) return true;
  const Side sides[2] = {{a, of_a}, {b, of_b}};
  if (!a.is_directory() && !b.is_directory()) {
    const std::string md5_a = md5_of_etag(of_a.etag), md5_b = md5_of_etag(of_b.etag);
    if (!md5_a.empty() && !md5_b.empty()) return md5_a == md5_b;
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
