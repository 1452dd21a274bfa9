#include "cached/sync/source_sum.h"

#include <algorithm>
#include <memory>

namespace larder {
namespace {

constexpr uint64_t kMostInMemory = 128 << 20;  // of one part
constexpr uint64_t kPiece = 8 << 20;

bool compares(const Store& source, const ObjectInfo& object) {
  return source.verifies() && EtagCheck(object.etag, object.size).tells();
}

}  // namespace

std::optional<uint64_t> SourceSum::part_bytes(const ObjectInfo& object) {
  const auto sizes = likely_part_bytes(object.etag, object.size);
  if (sizes.empty() || sizes.front() > kMostInMemory) return std::nullopt;
  return sizes.front();
}

SourceSum::SourceSum(const Store& source, const ObjectInfo& object, uint64_t part_bytes)
    : object_(object),
      part_bytes_(part_bytes),
      told_(compares(source, object)),
      by_parts_(SourceSum::part_bytes(object) == part_bytes) {
  sums_.resize(static_cast<size_t>(part_count(object.size, part_bytes)));
}

void SourceSum::compare_with(std::optional<CrcSum> crc) {
  crc_ = crc;
  crcs_.assign(crc ? sums_.size() : 0, 0);
}

void SourceSum::arrived(int number, Bytes data) {
  if (crc_) crcs_[static_cast<size_t>(number - 1)] = crc_update(crc_->kind, 0, data);
  if (crc_ || !told_) return;
  Md5Stream md5;
  md5.update(data);
  sums_[static_cast<size_t>(number - 1)] = md5.finish();
}

void SourceSum::was_there(int number, const std::string& etag) {
  sums_[static_cast<size_t>(number - 1)] = md5_of_etag(etag);
}

Status SourceSum::sum_the_rest(const ReadBack& read_back) {
  std::unique_ptr<std::byte[]> buffer;
  for (size_t i = 0; i < sums_.size(); ++i) {
    if (sums_[i]) continue;
    if (!buffer) buffer = std::make_unique_for_overwrite<std::byte[]>(part_bytes_);
    const std::span<std::byte> part(buffer.get(), std::min(part_bytes_, object_.size - i * part_bytes_));
    if (auto status = read_back(i * part_bytes_, part); !status.ok()) return status;
    arrived(static_cast<int>(i + 1), part);
  }
  return {};
}

Result<bool> SourceSum::right_as_read(const ReadBack& read_back) const {
  EtagCheck check(object_.etag, object_.size);
  const auto buffer = std::make_unique_for_overwrite<std::byte[]>(kPiece);
  for (uint64_t at = 0; at < object_.size; at += kPiece) {
    const std::span<std::byte> piece(buffer.get(), std::min(kPiece, object_.size - at));
    if (auto status = read_back(at, piece); !status.ok()) return status.error();
    check.update(piece);
  }
  return check.matches();
}

bool SourceSum::right_by_crc() const {
  uint64_t all = 0;
  for (size_t i = 0; i < crcs_.size(); ++i)
    all = crc_combine(crc_->kind, all, crcs_[i], std::min(part_bytes_, object_.size - i * part_bytes_));
  return all == crc_->value;
}

Result<bool> SourceSum::right(const ReadBack& read_back) {
  if (crc_) return right_by_crc();
  const bool all_known = std::all_of(sums_.begin(), sums_.end(), [](auto& sum) { return sum.has_value(); });
  if (!told_ || no_sum_->load() || (!read_back && !(by_parts_ && all_known))) return true;
  if (!all_known) {
    if (auto status = sum_the_rest(read_back); !status.ok()) return status.error();
  }
  std::vector<Md5> sums;
  for (auto& sum : sums_)
    sums.push_back(*sum);
  const std::string came = etag_of_parts(sums);
  if (by_parts_ && came == object_.etag) return true;
  if (read_back) {
    auto right = right_as_read(read_back);
    if (!right.ok() || *right) return right;
  }
  if (came == refused_ && !is_md5_etag(object_.etag)) return true;
  refused_ = came;
  return false;
}

}  // namespace larder
