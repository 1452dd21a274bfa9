// What a program under the preload asks for: the greeting, a file, a folder, chunks of a lazy object. Runs on the
// server's thread and never blocks it; replies come later, from any thread. Errors are errnos for the program.
#pragma once
#include <memory>

#include "cached/base/histogram.h"
#include "cached/fetch/chunk_fetcher.h"
#include "cached/fetch/object_fetcher.h"
#include "cached/namespace/datasets.h"
#include "cached/server/reply.h"

namespace larder {

class ProgramRequests {
 public:
  struct Parts {
    const Config& config;
    CacheDir& dir;
    ControlWriter& publisher;
    InodeTableWriter& inodes;
    ObjectCache& cache;
    Datasets& datasets;
    ObjectFetcher& flights;
    BackgroundFill& filler;
    ChunkStore& lazy;
    ChunkFetcher& chunks;
  };
  explicit ProgramRequests(Parts parts);

  void hello(const IncomingRequest& request);
  void fetch(const IncomingRequest& request);
  void directory(const IncomingRequest& request);
  void chunks(const IncomingRequest& request);

  // How long programs waited for whole objects that were not there, whether they came or not.
  const Histogram& miss_waits() const { return *miss_waits_; }

 private:
  bool open_lazy(const IncomingRequest& request, const Object& object);
  void lazy_files(const IncomingRequest& request, const LazyFile& file, uint64_t handle_inode);
  Result<Fd> mirror(int mirrors, uint64_t hash, uint64_t dataset_id);
  Result<Fd> namespace_directory(const std::string& path);
  Result<Fd> dataset_directory(const IncomingRequest& request);

  Parts p_;
  std::shared_ptr<Fd> null_;
  const std::shared_ptr<Histogram> miss_waits_ = std::make_shared<Histogram>();  // flights may outlive the requests
};

}  // namespace larder
