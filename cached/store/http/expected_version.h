// Which version of an object the replies of one GET must be of: the listed one and, where the listing cannot tell, the
// one whose bytes came first. An HTTP date has seconds: two versions of one second are told apart by an ETag only.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "cached/store/http/protocol.h"

namespace larder {

class ExpectedVersion {
 public:
  // `mtime_ns`: as listed, 0 if unknown.
  ExpectedVersion(const ObjectVersion& listed, int64_t mtime_ns);

  // The strong ETag that a request may send; empty: none is known.
  const std::string& if_match() const { return strong_; }
  // How the reply differs from what is expected; empty: not, as far as it tells.
  std::string difference(const HttpReply& reply) const;
  // The bytes of this reply are kept: later replies must be of the same version.
  void keep(const HttpReply& reply);
  // Whether a later reply of another version would be noticed.
  bool knows_others() const { return !strong_.empty() || !weak_.empty() || !date_.empty(); }

 private:
  std::string strong_, weak_;
  std::string date_;         // Last-Modified of the bytes that were kept, as it was sent
  int64_t listed_time_ = 0;  // nanoseconds; 0: not to be compared
};

}  // namespace larder
