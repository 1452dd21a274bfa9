// Writes into a store: whole objects, large ones in parts, and removal. Engines: s3:// and bos:// (http_writer.h),
// directories (file_writer.h). `larder sync` uses it.
//
// Threads: all members block until the work is done or has failed for good (attempts are repeated within), and may be
// called from any thread. Data is borrowed: the span must not change until the call returns. Errors are those of
// store.h; ENOENT from a call with an upload's id means that the store no longer knows that upload.
//
// An object appears whole or not at all: a reader sees the old one until put() or complete_upload() has succeeded.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cached/store/checksum/part_size.h"
#include "larder/result.h"

namespace larder {

using Bytes = std::span<const std::byte>;

// The object to make.
struct NewObject {
  std::string key;           // relative to the prefix
  uint64_t size = 0;         // bytes
  int64_t mtime_ns = 0;      // of the original: a file's own mtime, x-amz-meta-mtime, x-bce-meta-mtime
  std::string version;       // names the original's content (its etag): parts of another version are not continued
  uint64_t part_bytes = 0;   // of an upload in parts: the size of all but the last
  std::string content_type;  // empty: the store's default
};

// An object in the store, for copies by the store itself.
struct StoredObject {
  std::string bucket;
  std::string key;  // full
  std::string etag;
};

struct PartInfo {
  int number = 0;  // from 1
  uint64_t size = 0;
  std::string etag;
};

struct RemoveFailure {
  std::string key;
  Error error;
};

class StoreWriter {
 public:
  virtual ~StoreWriter() = default;
  virtual Status put(const NewObject& object, Bytes data) = 0;

  // Begins an upload, or continues that of an interrupted process if the store can find it (directories). Returns the
  // upload's id.
  virtual Result<std::string> create_upload(const NewObject& object) = 0;
  virtual Result<std::vector<PartInfo>> list_parts(const NewObject& object, const std::string& upload) = 0;
  virtual Result<PartInfo> put_part(const NewObject& object, const std::string& upload, int number, Bytes data) = 0;
  // `parts`: all of them, in order.
  virtual Status complete_upload(const NewObject& object, const std::string& upload,
                                 const std::vector<PartInfo>& parts) = 0;
  virtual Status abort_upload(const NewObject& object, const std::string& upload) = 0;
  // Reads the bytes that parts wrote, if the store can (reads_back()).
  virtual bool reads_back() const { return false; }
  virtual Status read_back(const NewObject& object, const std::string& upload, uint64_t offset,
                           std::span<std::byte> out);
  // The upload failed; its parts stay for a later create_upload() or list_parts().
  virtual void leave_upload(const std::string&) {}
  // True if create_upload() finds an interrupted upload by itself; otherwise the caller must keep its id.
  virtual bool finds_uploads() const = 0;

  // Has the store copy one of its own objects that the same keys may read, so that its bytes do not pass through this
  // process: up to max_copy() bytes as a whole, or any number as parts of an upload (at the offsets of put_part()).
  // ESTALE: it is another version by now; not all stores check. ENOTSUP: the store cannot copy.
  virtual Status copy(const NewObject& object, const StoredObject& original);
  virtual Result<PartInfo> copy_part(const NewObject& object, const std::string& upload, int number,
                                     const StoredObject& original);
  virtual uint64_t max_copy() const { return 0; }

  // A missing key is not a failure. At most remove_batch() keys.
  virtual std::vector<RemoveFailure> remove(const std::vector<std::string>& keys) = 0;
  virtual size_t remove_batch() const = 0;

  // EINVAL, with the reason, for a key that this store cannot hold.
  virtual Status check_key(std::string_view key) const = 0;
};

int part_count(uint64_t object_size, uint64_t part_bytes);  // at least 1
uint64_t part_offset(const NewObject& object, int number);
uint64_t part_size(const NewObject& object, int number);

}  // namespace larder
