// In which words a store is written to; what S3 and BOS have in common is in http_writer.cc. The replies are untrusted
// text.
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

// What the body of a 200 says of a copy.
struct CopyReply {
  ServiceError error;  // no code: it is done
  std::string etag;    // empty: the store said nothing
};

// What a store says of one key of a batch that it did not remove.
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
  virtual std::string_view meta_prefix() const = 0;  // of headers that are kept with an object
  virtual std::string_view body_type() const = 0;    // of orders: Content-Type
  virtual bool meta_at_completion() const = 0;       // of an upload in parts; false: when it is begun
  virtual Result<std::string> parse_upload(std::string_view body) const = 0;
  virtual NameValues parts_query(const std::string& upload, int after) const = 0;
  virtual Result<PartsPage> parse_parts(std::string_view body) const = 0;
  virtual std::string complete_body(const std::vector<PartInfo>& parts) const = 0;
  // The body of a 200: a store may notice only after its head was sent that it cannot do it. No code: it is done.
  virtual ServiceError parse_complete(std::string_view body) const = 0;
  // What the etag of an object made of these parts must be; empty: nobody knows.
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
