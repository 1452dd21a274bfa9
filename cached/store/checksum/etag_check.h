// Whether bytes are those that an ETag of S3 names: the MD5 of the object, or of one that was uploaded in parts the MD5
// of the parts' MD5s, a dash and their number. How long the parts were is not said; the sizes that tools use are tried,
// those that give this number.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cached/store/checksum/digest.h"

namespace larder {

// Sizes of parts that fit an ETag of parts, in bytes, the likeliest first. Empty: it is none, or nobody is known to use
// such parts.
std::vector<uint64_t> likely_part_bytes(std::string_view etag, uint64_t object_size);
bool is_md5_etag(std::string_view etag);
std::optional<Md5> md5_of_etag(std::string_view etag);
// Is it made of the content, as S3's are (an MD5, or one of parts)? Gateways fill in zeros or the MD5 of no bytes for
// files that did not come through them: those are not.
bool names_content(std::string_view etag);

// Takes an object's bytes in order. Not thread-safe.
class EtagCheck {
 public:
  EtagCheck(std::string_view etag, uint64_t object_size);
  // False: the ETag tells nothing about the bytes that could be compared.
  bool tells() const { return !guesses_.empty(); }
  bool sure() const { return !in_parts_; }  // nothing is guessed
  void update(std::span<const std::byte> bytes);
  // After the last byte. A difference may also mean that the ETag is no MD5 (SSE-KMS, SSE-C) or the parts were of other
  // sizes.
  bool matches();

 private:
  struct Guess {
    uint64_t part_bytes = 0;
    uint64_t in_part = 0;  // bytes of the part that is being read
    Md5Stream part, parts;
    void update(std::span<const std::byte> bytes);
    void end_part();
  };
  Md5 wanted_{};
  bool in_parts_ = false;
  std::vector<Guess> guesses_;
};

// The ETag of an object that was uploaded in parts with these MD5s.
std::string etag_of_parts(std::span<const Md5> parts);

}  // namespace larder
