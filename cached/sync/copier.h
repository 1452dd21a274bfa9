// Copies objects from one end to the other: small ones whole, large ones in parallel parts that survive an
// interruption. What arrives is the version that was listed, or an error (ESTALE if it changed).
//
// Within one service the store copies by itself, whole or in parts. What it refuses goes through this process,
// including the rest of an upload that has begun. Threads: copy() from tasks of the queue, all else from any.
#pragma once
#include <atomic>
#include <functional>
#include <memory>

#include "cached/sync/endpoint.h"
#include "cached/sync/limits.h"
#include "cached/sync/upload_state.h"
#include "cached/sync/work_queue.h"

namespace larder {

// Bytes. Larger objects go in parts (upload.h says of which size); for smaller ones, one request costs less than an
// upload's three.
inline constexpr uint64_t kCopyWhole = 16 << 20;

struct CopyCounters {
  // Of objects that are complete or under way: a failure or a new start subtracts its bytes.
  std::atomic<uint64_t> bytes{0};    // copied
  std::atomic<uint64_t> resumed{0};  // that an interrupted run had copied
};

class Copier {
 public:
  struct Ends {
    Endpoint& source;
    Endpoint& target;
  };
  Copier(Ends ends, WorkQueue& queue, uint64_t bytes_per_second, std::string state_directory);

  // From a task of the queue. `done` is called once, on some thread of the queue, perhaps before this returns. With
  // `stopped` set, parts that have not begun are not copied (ECANCELED).
  void copy(const ObjectInfo& object, std::function<void(Status)> done);
  void stop() { stopped_.store(true); }
  const CopyCounters& counters() const { return counters_; }
  RateLimit& rate() { return rate_; }

 private:
  class Large;
  using NoSum = std::shared_ptr<std::atomic<bool>>;  // GetRequest::etag_is_no_sum
  Status copy_whole(const ObjectInfo& object);
  bool copied_within(const ObjectInfo& object, Status* status);
  StoredObject original(const ObjectInfo& object) const;
  NewObject new_object(const ObjectInfo& object) const;
  // Reads and hands the bytes to `write`, within the limits of rate and memory.
  Status move(const ObjectInfo& object, uint64_t offset, uint64_t length, const NoSum& no_sum,
              const std::function<Status(Bytes)>& write);

  const Ends ends_;
  WorkQueue& queue_;
  RateLimit rate_;
  MemoryBudget memory_;
  const UploadState uploads_;
  CopyCounters counters_;
  const bool one_service_;
  // The service copies by itself, until it refuses.
  std::atomic<bool> copies_, copies_parts_;
  std::atomic<bool> stopped_{false};
};

}  // namespace larder
