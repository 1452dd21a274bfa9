// Writing to BOS: JSON bodies.
#pragma once
#include "cached/store/http/write_protocol.h"

namespace larder {

class BosWriting final : public WriteProtocol {
 public:
  std::string_view meta_prefix() const override { return "x-bce-meta-"; }
  std::string_view body_type() const override { return "application/json"; }
  // InitiateMultipartUpload takes no user metadata (Baidu's documentation of UploadPartCopy, and all its SDKs).
  bool meta_at_completion() const override { return true; }
  Result<std::string> parse_upload(std::string_view body) const override;
  NameValues parts_query(const std::string& upload, int after) const override;
  Result<PartsPage> parse_parts(std::string_view body) const override;
  std::string complete_body(const std::vector<PartInfo>& parts) const override;
  ServiceError parse_complete(std::string_view body) const override;
  // Baidu does not document the etag of an upload in parts.
  std::string composite_etag(const std::vector<PartInfo>&) const override { return {}; }
  NameValues copy_headers(const StoredObject& original, const std::optional<ByteRange>& range) const override;
  CopyReply parse_copied(std::string_view body) const override;
  size_t remove_batch() const override { return 1000; }
  bool batch_can_name(std::string_view key) const override;
  std::string remove_body(const std::vector<std::string>& keys) const override;
  Result<std::vector<RemoveRefusal>> parse_removed(std::string_view body) const override;
};

}  // namespace larder
