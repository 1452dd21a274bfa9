// file:///dir: the files below a directory are the objects.
//
// Keys are paths relative to the directory, any bytes but NUL. Symlinks are followed; a symlink to a directory above
// itself, a symlink to nothing, sockets, pipes and devices are passed over and counted. An object's etag is made of
// mtime, size and inode number: a file that was replaced or written since the listing is ESTALE, also when it changes
// while it is read.
#pragma once
#include <sys/stat.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "cached/store/store.h"

namespace larder {

std::string file_etag(const struct stat& st);

class FileStore final : public Store {
 public:
  FileStore(std::string directory, int threads);
  ~FileStore() override;
  Status list(const std::function<Status(std::vector<ObjectInfo>&&)>& page) override;
  Result<ObjectInfo> head(std::string_view key) override;
  void get(GetRequest request) override;
  StoreCounters counters() const override;
  uint64_t skipped() const { return skipped_.load(); }  // by the latest list()

 private:
  void work();
  Status read_object(const GetRequest& request, std::vector<std::byte>& buffer);
  void finish(GetRequest& request, Status status);
  std::string name(std::string_view key) const { return "file://" + directory_ + "/" + std::string(key); }

  const std::string directory_;
  std::atomic<uint64_t> skipped_{0}, gets_{0}, lists_{0}, bytes_{0}, errors_{0}, reading_{0};
  mutable std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<GetRequest> demand_, fill_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

Result<std::unique_ptr<Store>> open_file(const SourceUrl& source, const StoreOptions& options);

}  // namespace larder
