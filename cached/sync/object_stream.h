// A listing as a stream: its own thread lists, and next() returns one object after the other; of a key that the store
// lists twice, the later one. At most a few pages wait.
// The store must outlive it.
#pragma once
#include <deque>
#include <thread>
#include <vector>

#include "cached/base/mutex.h"
#include "cached/store/api/store.h"

namespace larder {

class ObjectStream {
 public:
  explicit ObjectStream(Store& store);
  ~ObjectStream();  // ends the listing at its next page
  ObjectStream(const ObjectStream&) = delete;
  ObjectStream& operator=(const ObjectStream&) = delete;

  // The next object, in byte order of keys; false at the end. One thread.
  bool next(ObjectInfo& object);
  // How the listing ended; only after next() was false.
  Status status() const {
    MutexLock lock(mutex_);
    return status_;
  }

 private:
  Status push(std::vector<ObjectInfo>&& page);

  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<std::vector<ObjectInfo>> pages_ GUARDED_BY(mutex_);
  bool ended_ GUARDED_BY(mutex_) = false;
  bool cancelled_ GUARDED_BY(mutex_) = false;
  Status status_ GUARDED_BY(mutex_);
  // next()'s thread alone: the page that it walks over.
  std::vector<ObjectInfo> now_;
  size_t at_ = 0;
  std::thread thread_;
};

}  // namespace larder
