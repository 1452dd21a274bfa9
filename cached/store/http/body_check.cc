#include "cached/store/http/body_check.h"

namespace larder {

BodyCheck::BodyCheck(const BodyChecksum& wanted) : wanted_(wanted) {
  if (wanted_.md5 && !wanted_.crc) md5_.emplace();
}

void BodyCheck::update(std::span<const std::byte> bytes) {
  if (wanted_.crc) crc_ = crc_update(wanted_.crc->kind, crc_, bytes);
  if (md5_) md5_->update(bytes);
}

bool BodyCheck::matches() {
  if (wanted_.crc) return crc_ == wanted_.crc->value;
  return !md5_ || md5_->finish() == *wanted_.md5;
}

}  // namespace larder
