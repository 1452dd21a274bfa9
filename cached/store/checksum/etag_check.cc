#include "cached/store/checksum/etag_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "cached/store/checksum/part_size.h"

namespace larder {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr std::string_view kMd5OfNothing = "d41d8cd98f00b204e9800998ecf8427e";

// N of "<32 digits>-N"; 0: it is no such ETag.
uint64_t parts_of_etag(std::string_view etag) {
  if (etag.size() < 34 || etag[32] != '-' || !is_md5_etag(etag.substr(0, 32))) return 0;
  uint64_t parts = 0;
  auto [end, failure] = std::from_chars(etag.data() + 33, etag.data() + etag.size(), parts);
  return failure == std::errc() && end == etag.data() + etag.size() ? parts : 0;
}

}  // namespace

bool is_md5_etag(std::string_view etag) {
  return etag.size() == 32 && etag.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
}

std::optional<Md5> md5_of_etag(std::string_view etag) {
  if (!is_md5_etag(etag)) return std::nullopt;
  Md5 out;
  for (size_t i = 0; i < out.size(); ++i)
    std::from_chars(etag.data() + 2 * i, etag.data() + 2 * i + 2, out[i], 16);
  return out;
}

bool names_content(std::string_view etag) {
  const std::string_view digits = etag.substr(0, 32);
  if (!is_md5_etag(etag) && parts_of_etag(etag) == 0) return false;
  return digits != kMd5OfNothing && digits.find_first_not_of(digits.front()) != std::string_view::npos;
}

std::vector<uint64_t> likely_part_bytes(std::string_view etag, uint64_t object_size) {
  const uint64_t parts = parts_of_etag(etag);
  if (parts == 0 || object_size == 0) return {};
  if (parts == 1) return {object_size};
  std::vector<uint64_t> out;
  // Ours and the AWS tools', rclone's, s5cmd's, and powers of two.
  for (uint64_t bytes :
       {upload_part_bytes(object_size), 5 * kMiB, 50 * kMiB, 15 * kMiB, 16 * kMiB, 32 * kMiB, 64 * kMiB, 128 * kMiB}) {
    const bool fits = (object_size + bytes - 1) / bytes == parts;
    if (fits && std::find(out.begin(), out.end(), bytes) == out.end()) out.push_back(bytes);
  }
  return out;
}

EtagCheck::EtagCheck(std::string_view etag, uint64_t object_size) {
  std::vector<uint64_t> sizes = likely_part_bytes(etag, object_size);
  in_parts_ = !sizes.empty();
  if (auto md5 = md5_of_etag(etag.substr(0, in_parts_ ? 32 : etag.size()))) wanted_ = *md5;
  if (!in_parts_ && is_md5_etag(etag) && object_size > 0) sizes = {object_size};
  guesses_ = std::vector<Guess>(sizes.size());
  for (size_t i = 0; i < sizes.size(); ++i)
    guesses_[i].part_bytes = sizes[i];
}

void EtagCheck::Guess::end_part() {
  const Md5 md5 = part.finish();
  parts.update(std::as_bytes(std::span(md5)));
  part.reset();
  in_part = 0;
}

void EtagCheck::Guess::update(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (in_part == part_bytes) end_part();
    const auto now = bytes.first(std::min<uint64_t>(bytes.size(), part_bytes - in_part));
    part.update(now);
    in_part += now.size();
    bytes = bytes.subspan(now.size());
  }
}

void EtagCheck::update(std::span<const std::byte> bytes) {
  for (Guess& g : guesses_)
    g.update(bytes);
}

bool EtagCheck::matches() {
  for (Guess& g : guesses_) {
    if (!in_parts_) return g.part.finish() == wanted_;
    g.end_part();
    if (g.parts.finish() == wanted_) return true;
  }
  return false;
}

std::string etag_of_parts(std::span<const Md5> parts) {
  Md5Stream md5;
  for (const Md5& part : parts)
    md5.update(std::as_bytes(std::span(part)));
  return fmt::format("{}-{}", hex(md5.finish()), parts.size());
}

}  // namespace larder
