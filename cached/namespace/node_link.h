// What this node and the others tell each other through the metadata: that a dataset has a new version, and who has how
// much of it.
//
// One thread of its own: metadata that hangs delays neither programs nor other work. Trouble is logged once until it is
// over.
#pragma once
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "cached/cache/object_cache.h"
#include "cached/namespace/datasets.h"

namespace larder {

class NodeLink {
 public:
  // `node` is our name among the others.
  NodeLink(Meta& meta, Datasets& datasets, ObjectCache& cache, std::string node);
  ~NodeLink();
  void stop();

 private:
  // Outlives us: the metadata's thread may still be telling.
  struct Inbox {
    std::mutex mutex;
    std::condition_variable wake;
    std::set<std::string> changed;
    bool stopping = false;
  };
  void run();
  void beat();
  void note(const std::string& what, const Status& status);

  Meta& meta_;
  Datasets& datasets_;
  ObjectCache& cache_;
  const std::string node_;
  const std::shared_ptr<Inbox> inbox_ = std::make_shared<Inbox>();
  std::map<std::string, std::string> troubles_;  // logged, not over yet
  std::thread thread_;
};

// LARDER_NODE, else the host's name; a user's private daemon is "host/uid".
std::string node_name(bool is_private);

}  // namespace larder
