// How S3 and BOS differ in writing; http_writer.cc has what they have in common. Replies are untrusted text.
//
// Threads: every function may be called from any thread; none blocks.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cached/store/api/upload.h"
#include "cached/store/http/protocol.h"

namespace larder {

struct PartsPage {
  std::vector<PartInfo> parts;
  int next = 0;  // the next page begins after this part; 0: this was the last
};

struct ByteRange {
  uint64_t offset = 0;
  uint64_t length = 0;  // at least 1
};

// The result of a copy in the body of a 200.
struct CopyReply {
  ServiceError error;  // no code: success
  std::string etag;    // empty: the store said nothing
};

// A key of a batch that the store did not remove, and why.
struct RemoveRefusal {
  std::string key;  // full
  ServiceError error;
};

// "bytes=0-9".
inline std::string range_text(const ByteRange& range) {
  return "bytes=" + std::to_string(range.offset) + "-" + std::to_string(range.offset + range.length - 1);
}

class WriteProtocol {
 public:
  virtual ~WriteProtocol() = default;
  virtual std::string_view meta_prefix() const = 0;  // of headers that the store keeps with an object
  virtual std::string_view body_type() const = 0;    // Content-Type of bodies
  virtual bool meta_at_completion() const = 0;       // of an upload in parts; false: when it is begun
  virtual Result<std::string> parse_upload(std::string_view body) const = 0;
  virtual NameValues parts_query(const std::string& upload, int after) const = 0;
  virtual Result<PartsPage> parse_parts(std::string_view body) const = 0;
  virtual std::string complete_body(const std::vector<PartInfo>& parts) const = 0;
  // Parses the body of a 200, since a store may fail after it sent the head. No code: success.
  virtual ServiceError parse_complete(std::string_view body) const = 0;
  // The etag that an object of these parts must have; empty if it is not known.
  virtual std::string composite_etag(const std::vector<PartInfo>& parts) const = 0;

  // Of a PUT without a body that copies: all of the original, with new metadata, or these bytes of it as a part; and
  // its 200.
  virtual NameValues copy_headers(const StoredObject& original, const std::optional<ByteRange>& range) const = 0;
  virtual CopyReply parse_copied(std::string_view body) const = 0;

  virtual size_t remove_batch() const = 0;  // 1: one by one
  virtual bool batch_can_name(std::string_view key) const = 0;
  virtual std::string remove_body(const std::vector<std::string>& keys) const = 0;  // full keys
  virtual Result<std::vector<RemoveRefusal>> parse_removed(std::string_view body) const = 0;
};

}  // namespace larder
