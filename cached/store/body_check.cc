#include "cached/store/body_check.h"

#include <zlib.h>

#include <cstring>

namespace larder {

BodyCheck::BodyCheck(BodyChecksum wanted) : wanted_(std::move(wanted)) {
  if (wanted_.kind == BodyChecksum::Kind::kMd5) md5_.emplace();
}

void BodyCheck::update(std::span<const std::byte> bytes) {
  if (md5_) md5_->update(bytes);
  if (wanted_.kind == BodyChecksum::Kind::kCrc32)
    crc_ = static_cast<uint32_t>(crc32_z(crc_, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

bool BodyCheck::matches() {
  if (md5_) {
    const Md5 got = md5_->finish();
    return wanted_.value.size() == got.size() && memcmp(wanted_.value.data(), got.data(), got.size()) == 0;
  }
  if (wanted_.kind != BodyChecksum::Kind::kCrc32) return true;
  const unsigned char got[4] = {static_cast<unsigned char>(crc_ >> 24), static_cast<unsigned char>(crc_ >> 16),
                                static_cast<unsigned char>(crc_ >> 8), static_cast<unsigned char>(crc_)};
  return wanted_.value.size() == sizeof got && memcmp(wanted_.value.data(), got, sizeof got) == 0;
}

}  // namespace larder
