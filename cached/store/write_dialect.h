// In which words a store is written to; what S3 and BOS have in common is in http_writer.cc. The replies are untrusted
// text.
//
// Threads: every function may be called from any thread; none blocks.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cached/store/dialect.h"
#include "cached/store/upload.h"

namespace larder {

struct PartsPage {
  std::vector<PartInfo> parts;
  int next = 0;  // the next page begins after this part; 0: this was the last
};

// What a store says of one key of a batch that it did not remove.
struct RemoveRefusal {
  std::string key;  // full
  ServiceError error;
};

class WriteDialect {
 public:
  virtual ~WriteDialect() = default;
  virtual std::string_view meta_prefix() const = 0;  // of headers that are kept with an object
  virtual Result<std::string> parse_upload(std::string_view body) const = 0;
  virtual NameValues parts_query(const std::string& upload, int after) const = 0;
  virtual Result<PartsPage> parse_parts(std::string_view body) const = 0;
  virtual std::string complete_body(const std::vector<PartInfo>& parts) const = 0;
  // The body of a 200: a store may notice only after its head was sent that it cannot do it. No code: it is done.
  virtual ServiceError parse_complete(std::string_view body) const = 0;
  // What the etag of an object made of these parts must be; empty: nobody knows.
  virtual std::string composite_etag(const std::vector<PartInfo>& parts) const = 0;

  // Of a PUT without a body that copies, with new metadata; and the body of its 200.
  virtual NameValues copy_headers(const StoredObject& original) const = 0;
  virtual ServiceError parse_copied(std::string_view body) const = 0;

  virtual size_t remove_batch() const = 0;  // 1: one by one
  virtual bool batch_can_name(std::string_view key) const = 0;
  virtual std::string remove_body(const std::vector<std::string>& keys) const = 0;  // full keys
  virtual Result<std::vector<RemoveRefusal>> parse_removed(std::string_view body) const = 0;
};

}  // namespace larder
