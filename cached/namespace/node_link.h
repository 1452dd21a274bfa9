// What this node and the others tell each other through the metadata: that a dataset has a new version, and who has how
// much of it.
//
// One thread of its own: metadata that hangs delays neither programs nor other work. Trouble is logged once until it is
// over.
#pragma once
#include <chrono>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>

#include "cached/base/mutex.h"
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
    Mutex mutex;
    CondVar wake;
    std::set<std::string> changed GUARDED_BY(mutex);
    bool stopping GUARDED_BY(mutex) = false;
  };
  void run();
  // Waits until there is news, or until `next`. False: the link stops.
  bool wait_for_news(std::chrono::steady_clock::time_point next, std::set<std::string>* changed);
  void beat();
  void note(const std::string& what, const Status& status);

  Meta& meta_;
  Datasets& datasets_;
  ObjectCache& cache_;
  const std::string node_;
  const std::shared_ptr<Inbox> inbox_ = std::make_shared<Inbox>();
  std::map<std::string, std::string> troubles_;  // logged, not over yet; our thread's
  std::thread thread_;
};

// LARDER_NODE, else the host's name; a user's private daemon is "host/uid".
std::string node_name(bool is_private);

}  // namespace larder
