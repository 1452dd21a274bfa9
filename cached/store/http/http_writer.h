// Writes into a store over HTTP: what S3 and BOS have in common. A WriteProtocol has the differences. Threads: any;
// calls block.
//
// Bodies are sent from the caller's memory. Over plain http, and over https with verify=always, they carry Content-MD5,
// so that the store refuses a flipped bit before anybody can read it. The reply's sums (MD5 in the ETag, CRC-32) are
// compared whenever that costs nothing or `verify` asks for it.
#pragma once
#include <memory>

#include "cached/store/api/upload.h"
#include "cached/store/http/http_store.h"
#include "cached/store/http/write_protocol.h"

namespace larder {

class HttpWriter final : public StoreWriter {
 public:
  // `head` asks the store for an object; engine and context outlive the writer.
  HttpWriter(std::shared_ptr<StoreContext> store, HttpEngine& engine);
  Status put(const NewObject& object, Bytes data) override;
  Result<std::string> create_upload(const NewObject& object) override;
  Result<std::vector<PartInfo>> list_parts(const NewObject& object, const std::string& upload) override;
  Result<PartInfo> put_part(const NewObject& object, const std::string& upload, int number, Bytes data) override;
  Status complete_upload(const NewObject& object, const std::string& upload,
                         const std::vector<PartInfo>& parts) override;
  Status abort_upload(const NewObject& object, const std::string& upload) override;
  Status copy(const NewObject& object, const StoredObject& original) override;
  Result<PartInfo> copy_part(const NewObject& object, const std::string& upload, int number,
                             const StoredObject& original) override;
  uint64_t max_copy() const override { return store_->options.max_copy; }
  bool finds_uploads() const override { return false; }
  std::vector<RemoveFailure> remove(const std::vector<std::string>& keys) override;
  size_t remove_batch() const override { return words_.remove_batch(); }
  Status check_key(std::string_view key) const override;

 private:
  Result<HttpReply> send(StoreCall call, Bytes data);
  void add_type(const NewObject& object, NameValues& headers) const;
  void add_meta(const NewObject& object, NameValues& headers) const;
  Result<CopyReply> have_copied(StoreCall call, const StoredObject& original, const std::optional<ByteRange>& range);
  bool is_there(const NewObject& object, const std::vector<PartInfo>& parts);
  void remove_one(const std::string& key, std::vector<RemoveFailure>& failures);
  void remove_many(const std::vector<std::string>& keys, std::vector<RemoveFailure>& failures);

  const std::shared_ptr<StoreContext> store_;
  HttpEngine& engine_;
  const WriteProtocol& words_;
  std::atomic<bool> no_batches_{false};  // the store has no batches (GCS)
};

}  // namespace larder
