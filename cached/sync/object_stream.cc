#include "cached/sync/object_stream.h"

#include "cached/store/api/distinct_keys.h"

namespace larder {
namespace {

constexpr size_t kMaxPages = 4;

}  // namespace

ObjectStream::ObjectStream(Store& store) {
  thread_ = std::thread([this, &store] {
    ListedTwice twice;
    Status status = list_distinct(
        store, [this](std::vector<ObjectInfo>&& page) { return push(std::move(page)); }, twice);
    MutexLock lock(mutex_);
    status_ = std::move(status);
    ended_ = true;
    changed_.notify_all();
  });
}

ObjectStream::~ObjectStream() {
  {
    MutexLock lock(mutex_);
    cancelled_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

Status ObjectStream::push(std::vector<ObjectInfo>&& page) {
  MutexLock lock(mutex_);
  while (!cancelled_ && pages_.size() >= kMaxPages)
    changed_.wait(mutex_);
  if (cancelled_) return make_error(ECANCELED, "the listing is not needed any more");
  pages_.push_back(std::move(page));
  changed_.notify_all();
  return {};
}

bool ObjectStream::next(ObjectInfo& object) {
  while (at_ == now_.size()) {
    MutexLock lock(mutex_);
    while (!ended_ && pages_.empty())
      changed_.wait(mutex_);
    if (pages_.empty()) return false;
    now_ = std::move(pages_.front());
    pages_.pop_front();
    at_ = 0;
    changed_.notify_all();
  }
  object = std::move(now_[at_++]);
  return true;
}

}  // namespace larder
