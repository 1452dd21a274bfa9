// A listing as a stream: its own thread lists, and next() returns one object after the other. At most a few pages wait.
// The store must outlive it.
#pragma once
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

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
  const Status& status() const { return status_; }

 private:
  Status push(std::vector<ObjectInfo>&& page);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::vector<ObjectInfo>> pages_;
  bool ended_ = false, cancelled_ = false;
  Status status_;
  std::vector<ObjectInfo> now_;  // the page that next() walks over
  size_t at_ = 0;
  std::thread thread_;
};

}  // namespace larder
