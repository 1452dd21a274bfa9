// Passes objects from the thread that decodes them to the thread that uses them.
#pragma once
#include <algorithm>
#include <deque>
#include <string>
#include <vector>

#include "cached/base/mutex.h"
#include "cached/meta/meta.h"

namespace larder {

// The objects of one segment, in two allocations.
class ObjectBatch {
 public:
  explicit ObjectBatch(size_t objects = 0) { rows_.reserve(std::min(objects, kMostReserved)); }
  void add(const ObjectView& o) {
    texts_ += o.key;
    texts_ += o.etag;
    rows_.push_back({static_cast<uint32_t>(o.key.size()), static_cast<uint32_t>(o.etag.size()), o.size, o.mtime_ns});
  }
  size_t size() const { return rows_.size(); }
  // Stops at the receiver's first error.
  Status each(const ObjectReceiver& object) const {
    std::string_view rest = texts_;
    for (const Row& r : rows_) {
      if (Status s = object({rest.substr(0, r.key), r.size, r.mtime_ns, rest.substr(r.key, r.etag)}); !s) return s;
      rest.remove_prefix(r.key + r.etag);
    }
    return {};
  }

 private:
  static constexpr size_t kMostReserved = 16'384;  // more than that is not reserved for an untrusted count
  struct Row {
    uint32_t key, etag;
    uint64_t size;
    int64_t mtime_ns;
  };
  std::string texts_;
  std::vector<Row> rows_;
};

// One giver, one taker. It holds kMost batches: a giver that decodes faster than the taker uses them waits.
class ObjectPipe {
 public:
  // Blocks while the pipe is full. False: the taker has stopped.
  bool give(ObjectBatch&& batch) {
    MutexLock lock(mutex_);
    while (batches_.size() >= kMost && !stopped_)
      moved_.wait(mutex_);
    if (stopped_) return false;
    batches_.push_back(std::move(batch));
    moved_.notify_all();
    return true;
  }
  // Blocks. False: there are no more batches; status() tells whether the giver failed.
  bool take(ObjectBatch& batch) {
    MutexLock lock(mutex_);
    while (batches_.empty() && !closed_)
      moved_.wait(mutex_);
    if (batches_.empty()) return false;
    batch = std::move(batches_.front());
    batches_.pop_front();
    moved_.notify_all();
    return true;
  }
  // The giver's last call.
  void close(Status status) {
    MutexLock lock(mutex_);
    status_ = std::move(status);
    closed_ = true;
    moved_.notify_all();
  }
  void stop() {
    MutexLock lock(mutex_);
    stopped_ = true;
    moved_.notify_all();
  }
  Status status() {
    MutexLock lock(mutex_);
    return status_;
  }

 private:
  static constexpr size_t kMost = 4;
  Mutex mutex_;
  CondVar moved_;
  std::deque<ObjectBatch> batches_ GUARDED_BY(mutex_);
  Status status_ GUARDED_BY(mutex_);
  bool closed_ GUARDED_BY(mutex_) = false;
  bool stopped_ GUARDED_BY(mutex_) = false;
};

}  // namespace larder
