// Writes into a directory. Every file appears whole, by rename from a name in the same folder, with the mtime of its
// original.
//
// Unfinished files are named ".larder-sync-...", and listings (file.h) skip them. Those of uploads in parts are found
// again after an interruption: their name is a hash of key, version, size, part size and the machine's boot id, and one
// byte a part follows the data, '1' once the part is written. (After a crash of the machine, written data may not be on
// disk: hence the boot id.) The writer of an unfinished file holds a lock on it (flock).
//
// Nothing is written or removed outside the directory: symbolic links on the way are refused (ENOTDIR), one in place of
// the file itself is replaced. Owner, mode and extended attributes are not copied: 0666 less the umask.
#pragma once
#include <map>
#include <memory>
#include <string>

#include "cached/base/fd.h"
#include "cached/base/mutex.h"
#include "cached/store/api/upload.h"

namespace larder {

inline constexpr std::string_view kUnfinishedPrefix = ".larder-sync-";

class FileWriter final : public StoreWriter {
 public:
  explicit FileWriter(std::string directory);
  Status put(const NewObject& object, Bytes data) override;
  Result<std::string> create_upload(const NewObject& object) override;
  Result<std::vector<PartInfo>> list_parts(const NewObject& object, const std::string& upload) override;
  Result<PartInfo> put_part(const NewObject& object, const std::string& upload, int number, Bytes data) override;
  Status complete_upload(const NewObject& object, const std::string& upload,
                         const std::vector<PartInfo>& parts) override;
  Status abort_upload(const NewObject& object, const std::string& upload) override;
  bool reads_back() const override { return true; }
  Status read_back(const NewObject& object, const std::string& upload, uint64_t offset,
                   std::span<std::byte> out) override;
  void leave_upload(const std::string& upload) override { forget(upload); }
  bool finds_uploads() const override { return true; }
  // Also removes directories that became empty, but never the directory itself.
  std::vector<RemoveFailure> remove(const std::vector<std::string>& keys) override;
  size_t remove_batch() const override { return 100; }
  Status check_key(std::string_view key) const override;

  // Removes unfinished files that nobody writes; `keys` are those that a listing skipped.
  void remove_unfinished(const std::vector<std::string>& keys);
  // Makes the folder of "dir/", an empty object of a bucket.
  Status make_directory(std::string_view path);

 private:
  struct Unfinished {
    Fd folder, file;
    std::string name;
  };
  Result<Fd> folder_of(std::string_view key, bool make) const;
  Result<std::shared_ptr<Unfinished>> open_unfinished(const NewObject& object);
  Result<std::shared_ptr<Unfinished>> find(const std::string& upload);
  void forget(const std::string& upload);
  Status remove_one(const std::string& key);
  void remove_empty_folders(std::string_view path);
  std::string name(std::string_view key) const;

  const std::string directory_;
  const Fd root_;
  Mutex mutex_;
  std::map<std::string, std::shared_ptr<Unfinished>> open_ GUARDED_BY(mutex_);  // by the upload's id
};

}  // namespace larder
