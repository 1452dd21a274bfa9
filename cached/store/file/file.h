// file:///dir: the files below a directory are the objects. A folder below which there are none is an empty object
// whose key ends in '/'.
//
// Keys are paths relative to the directory, any bytes but NUL. Symlinks are followed; with the option symlinks=inside
// those alone that lead to something below the directory, with symlinks=skip none. A symlink to a directory above
// itself, a symlink to nothing, symlinks that are not followed, sockets, pipes and devices are passed over and counted.
// So are the unfinished files of larder sync (file_writer.h). A file that was replaced or written since the listing is
// ESTALE, also when it changes while it is read: file_etag() tells.
//
// A file server that hangs holds the threads that read from it. Their requests, and those that wait for a thread, end
// in EIO when nothing has moved for `stall_timeout`; the threads go on when the server does.
#pragma once
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cached/base/fd.h"
#include "cached/base/mutex.h"
#include "cached/store/api/filter.h"
#include "cached/store/api/store.h"
#include "cached/store/file/file_writer.h"

namespace larder {

// What names a version of a file: its times of change and of status change (ctime, which programs cannot set), size,
// inode number, birth and device, where the file system has them. A file that is written twice within one tick of the
// kernel's clock (4 ms at most; none since Linux 6.13), or through a mapping that was already dirty, keeps them all.
std::string file_etag(const struct statx& file);

enum class Symlinks { kFollow, kInside, kSkip };

// What list() shows.
struct FileListing {
  Symlinks symlinks = Symlinks::kFollow;
  Filter exclude;                // neither shown nor entered
  bool skip_unreadable = false;  // folders that may not be read are counted and passed over; else list() fails
};

class FileStore final : public Store {
 public:
  static constexpr std::chrono::milliseconds kStallTimeout{60'000};  // an NFS server that restarts takes as long
  FileStore(std::string directory, int threads, FileListing listing = {},
            std::chrono::milliseconds stall_timeout = kStallTimeout);
  ~FileStore() override;
  Status list(const std::function<Status(std::vector<ObjectInfo>&&)>& page) override;
  Result<ObjectInfo> head(std::string_view key) override;
  void get(GetRequest request) override;
  void hurry(std::string_view key) override;
  StoreCounters counters() const override;
  FileWriter* writer() override { return &writer_; }
  uint64_t skipped() const { return skipped_.load(); }        // by the latest list()
  uint64_t unreadable() const { return unreadable_.load(); }  // folders that the latest list() passed over
  // Keys that whoever lists has no use for: list() need not be able to read such folders. Before the first list().
  void set_unwanted(Filter filter) { unwanted_ = std::move(filter); }
  // Empty folders are not listed. Before the first list().
  void set_files_only() { files_only_ = true; }
  // Unfinished files that the latest list() met, the first 10,000; not while one is under way.
  const std::vector<std::string>& unfinished() const { return unfinished_; }
  // Fills `out` with the bytes from `offset` on, on the caller's thread. ESTALE if it is not the file that was listed.
  Status read(const ObjectInfo& object, uint64_t offset, std::span<std::byte> out);

 private:
  using Clock = std::chrono::steady_clock;
  // A request that waits for a thread, or that one reads.
  struct Reading {
    GetRequest request;
    Clock::time_point moved = Clock::now();
    bool delivering = false;  // its receiver is called now
    bool over = false;        // on_done was called, or will be by whoever set this
  };
  using ReadingPtr = std::shared_ptr<Reading>;

  void work();
  void watch();
  std::vector<ReadingPtr> take_stalled() REQUIRES(mutex_);
  Status read_object(Reading& reading, std::vector<std::byte>& buffer) EXCLUDES(mutex_);
  Status deliver(Reading& reading, std::span<const std::byte> bytes) EXCLUDES(mutex_);
  struct OpenFile {
    Fd fd;
    std::string object;  // for messages
  };
  Status open_listed(const ObjectInfo& object, OpenFile& out);
  Status unchanged(const ObjectInfo& object, const OpenFile& file);
  bool may_show(const Fd& file) const;
  Result<size_t> read_some(const OpenFile& file, uint64_t offset, std::span<std::byte> out);
  void finish(GetRequest& request, Status status);
  std::string name(std::string_view key) const { return "file://" + directory_ + "/" + std::string(key); }

  const std::string directory_;
  const FileListing listing_;
  const std::chrono::milliseconds stall_timeout_;
  Filter unwanted_;
  bool files_only_ = false;
  FileWriter writer_;
  std::vector<std::string> unfinished_;
  std::atomic<uint64_t> skipped_{0}, unreadable_{0}, gets_{0}, lists_{0}, bytes_{0}, errors_{0}, reading_{0};
  mutable Mutex mutex_;
  CondVar ready_, watched_;
  std::deque<ReadingPtr> demand_ GUARDED_BY(mutex_);
  std::deque<ReadingPtr> fill_ GUARDED_BY(mutex_);
  std::list<ReadingPtr> readings_ GUARDED_BY(mutex_);          // that a thread has
  Clock::time_point moved_ GUARDED_BY(mutex_) = Clock::now();  // any of them
  bool idle_ GUARDED_BY(mutex_) = false;                       // watch() waits for a request
  bool stop_ GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

Result<std::unique_ptr<Store>> open_file(const SourceUrl& source, const StoreOptions& options);

}  // namespace larder
