#include "cached/store/http/parallel_get.h"

#include <map>

#include "cached/base/mutex.h"
#include "cached/store/http/range_get.h"

namespace larder {
namespace {

// Invariants, under mutex_: parts [head_, next_) are under way or complete; only the thread that set delivering_ calls
// the receiver and moves head_; told_ is set before on_done is called, and only when nobody delivers.
class ParallelGet : public std::enable_shared_from_this<ParallelGet> {
 public:
  ParallelGet(std::shared_ptr<StoreContext> store, HttpEngine& engine, GetRequest request)
      : store_(std::move(store)),
        engine_(engine),
        request_(std::move(request)),
        count_((request_.length + kPartBytes - 1) / kPartBytes) {}

  void start() {
    MutexLock lock(mutex_);
    start_parts();
  }

 private:
  struct Part {
    std::vector<std::byte> data;  // arrived, not yet delivered
    bool complete = false;
    bool ahead = false;  // counted in parts_ahead
  };

  // Starts what window and memory allow; at least one part is always under way. Releases the lock meanwhile.
  void start_parts() REQUIRES(mutex_) {
    while (!failed_ && next_ < count_ && next_ - head_ < kPartsAhead) {
      const bool ahead = next_ != head_;
      if (ahead && store_->parts_ahead.fetch_add(1) >= kStorePartsAhead) {
        store_->parts_ahead.fetch_sub(1);
        return;
      }
      const uint64_t index = next_++;
      parts_[index].ahead = ahead;
      mutex_.unlock();
      engine_.submit(part(index), request_.demand);
      mutex_.lock();
    }
  }

  std::shared_ptr<HttpAttempt> part(uint64_t index) {
    GetRequest one;
    one.key = request_.key;
    one.etag = request_.etag;
    one.mtime_ns = request_.mtime_ns;
    one.offset = request_.offset + index * kPartBytes;
    one.length = std::min(kPartBytes, request_.offset + request_.length - one.offset);
    one.object_size = request_.object_size;
    one.demand = request_.demand;
    one.etag_is_no_sum = request_.etag_is_no_sum;
    auto self = shared_from_this();
    one.on_data = [self, index](std::span<const std::byte> data) { return self->arrived(index, data); };
    one.on_done = [self, index](Status status) { self->ended(index, status); };
    return make_range_get(store_, std::move(one), [self] { return self->failed(); });
  }

  bool failed() {
    MutexLock lock(mutex_);
    return failed_;
  }

  Status arrived(uint64_t index, std::span<const std::byte> data) {
    MutexLock lock(mutex_);
    if (failed_) return error_;
    Part& part = parts_[index];
    if (index == head_ && part.data.empty() && !delivering_) {
      deliver(data);
    } else {
      part.data.insert(part.data.end(), data.begin(), data.end());
    }
    drain();
    return failed_ ? Status(error_) : Status();
  }

  void ended(uint64_t index, Status status) {
    MutexLock lock(mutex_);
    if (status.ok()) {
      parts_[index].complete = true;
    } else {
      fail(status.error());
    }
    drain();
  }

  void fail(const Error& error) REQUIRES(mutex_) {
    if (failed_) return;
    failed_ = true;
    error_ = error;
  }

  // Calls the receiver without the lock; nobody else does meanwhile.
  void deliver(std::span<const std::byte> data) REQUIRES(mutex_) {
    delivering_ = true;
    mutex_.unlock();
    const Status status = request_.on_data(data);
    mutex_.lock();
    delivering_ = false;
    if (!status.ok()) fail(status.error());
  }

  // Delivers whatever is next in order, starts further parts, tells the end.
  void drain() REQUIRES(mutex_) {
    while (!delivering_ && !failed_ && head_ < next_) {
      Part& part = parts_[head_];
      if (!part.data.empty()) {
        std::vector<std::byte> data;
        data.swap(part.data);
        deliver(data);
      } else if (part.complete) {
        drop_head();
        start_parts();
      } else {
        break;
      }
    }
    tell_end();
  }

  void drop_head() REQUIRES(mutex_) {
    if (parts_[head_].ahead) store_->parts_ahead.fetch_sub(1);
    parts_.erase(head_);
    ++head_;
  }

  // Calls on_done without the lock.
  void tell_end() REQUIRES(mutex_) {
    if (told_ || delivering_ || !(failed_ || head_ == count_)) return;
    told_ = true;
    for (auto& [index, part] : parts_) {
      if (part.ahead) store_->parts_ahead.fetch_sub(1);
      part = {};
    }
    auto done = std::move(request_.on_done);
    Status status = failed_ ? Status(error_) : Status();
    mutex_.unlock();
    done(std::move(status));
    mutex_.lock();
  }

  const std::shared_ptr<StoreContext> store_;
  HttpEngine& engine_;
  GetRequest request_;
  const uint64_t count_;
  Mutex mutex_;
  uint64_t head_ GUARDED_BY(mutex_) = 0;  // the part whose turn it is
  uint64_t next_ GUARDED_BY(mutex_) = 0;  // the next to start
  std::map<uint64_t, Part> parts_ GUARDED_BY(mutex_);
  bool delivering_ GUARDED_BY(mutex_) = false;
  bool failed_ GUARDED_BY(mutex_) = false;
  bool told_ GUARDED_BY(mutex_) = false;
  Error error_ GUARDED_BY(mutex_);
};

}  // namespace

bool wants_parallel(const StoreContext& store, const GetRequest& request) {
  return request.length > kParallelAbove && !store.dialect->version(request.etag).if_match.empty();
}

void start_parallel_get(std::shared_ptr<StoreContext> store, HttpEngine& engine, GetRequest request) {
  std::make_shared<ParallelGet>(std::move(store), engine, std::move(request))->start();
}

}  // namespace larder
