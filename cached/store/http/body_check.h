// A checksum of a whole object while it passes. Threads: one at a time.
#pragma once
#include <cstdint>
#include <optional>
#include <span>

#include "cached/store/checksum/digest.h"
#include "cached/store/http/protocol.h"

namespace larder {

class BodyCheck {
 public:
  BodyCheck() = default;                           // anything matches
  explicit BodyCheck(const BodyChecksum& wanted);  // by the CRC if there is one
  void update(std::span<const std::byte> bytes);
  bool matches();  // after the last byte

 private:
  BodyChecksum wanted_;
  std::optional<Md5Stream> md5_;
  uint64_t crc_ = 0;
};

}  // namespace larder
