// Heartbeats of nodes, kept in memory, for an engine that only one machine can reach. Threads: any.
#pragma once
#include <algorithm>
#include <chrono>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "cached/base/mutex.h"
#include "cached/meta/meta.h"

namespace larder {

// The order that Meta::nodes() promises.
inline void sort_nodes(std::vector<NodeInfo>& nodes) {
  std::sort(nodes.begin(), nodes.end(), [](const NodeInfo& a, const NodeInfo& b) {
    return a.bytes != b.bytes ? a.bytes > b.bytes : a.node < b.node;
  });
}

class NodeBoard {
 public:
  void publish(std::string_view dataset, const NodeInfo& node) {
    MutexLock lock(mutex_);
    beats_[std::string(dataset)][node.node] = {node, Clock::now()};
  }

  std::vector<NodeInfo> live(std::string_view dataset) const {
    MutexLock lock(mutex_);
    std::vector<NodeInfo> out;
    auto beats = beats_.find(dataset);
    if (beats == beats_.end()) return out;
    for (const auto& [name, beat] : beats->second) {
      const auto age = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - beat.at).count();
      if (age >= kNodeExpirySeconds) continue;
      out.push_back(beat.node);
      out.back().age_s = static_cast<uint32_t>(age);
    }
    sort_nodes(out);
    return out;
  }

 private:
  using Clock = std::chrono::steady_clock;
  struct Beat {
    NodeInfo node;
    Clock::time_point at;
  };
  mutable Mutex mutex_;
  std::map<std::string, std::map<std::string, Beat>, std::less<>> beats_ GUARDED_BY(mutex_);
};

}  // namespace larder
