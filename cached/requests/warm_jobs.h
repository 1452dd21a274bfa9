// The jobs of `larder warm`, of all users. None holds a thread: one thread starts them, looks at what became of them,
// and tells who waits. Of one user so many run at once as kRunningOfUser; the others wait their turn. Jobs end with
// the daemon. Thread-safe; calls return at once.
#pragma once
#include <sys/types.h>

#include <atomic>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include "cached/base/mutex.h"
#include "cached/fetch/object_fetcher.h"
#include "cached/requests/admin_call.h"
#include "cached/requests/warm_job.h"

namespace larder {

class WarmJobs {
 public:
  static constexpr size_t kRunningOfUser = 4;
  static constexpr size_t kMostOfUser = 64;  // running and waiting
  static constexpr size_t kEndedKept = 16;   // for status()

  // `flights` outlives it.
  explicit WarmJobs(ObjectFetcher& flights) : flights_(flights) {}
  ~WarmJobs() { stop(); }

  // A job for whoever made the call, who gets progress and the final answer if he waits; otherwise nobody does, and
  // status() tells. Its number; EAGAIN: the user has kMostOfUser.
  Result<uint64_t> add(std::shared_ptr<WarmJob> job, const std::vector<std::string>& paths, const AdminCall& call,
                       bool waits) EXCLUDES(mutex_);
  // Fetches nothing more for it. ENOENT: no such job runs or waits. EPERM: it is another user's.
  Status end(uint64_t number, const Peer& peer, bool may_administer) EXCLUDES(mutex_);
  // All that run and wait, and the last that ended. The paths of a user's jobs are told if he is the
  // viewer; `all`: everybody's.
  nlohmann::json status(std::optional<uid_t> viewer, bool all) const EXCLUDES(mutex_);
  bool busy() const { return active_.load() > 0; }
  // Ends all; who waits gets ECANCELED. None is added afterwards.
  void stop() EXCLUDES(mutex_);

 private:
  enum class State { kWaiting, kRunning, kDone, kFailed, kStopped };
  struct Entry {
    uint64_t number;
    uid_t uid;
    std::string path;  // the first
    size_t paths;
    std::shared_ptr<WarmJob> job;
    std::shared_ptr<Replier> reply;  // null: nobody waits
    decltype(Progress::report) report;
    std::atomic<bool> stopped{false};
    // Guarded by mutex_.
    State state = State::kWaiting;
    WarmCounts counts;
  };
  using EntryPtr = std::shared_ptr<Entry>;

  static const char* name_of(State state);
  size_t count_locked(uid_t uid, State state) const REQUIRES(mutex_);
  std::vector<EntryPtr> start_locked() REQUIRES(mutex_);
  std::vector<EntryPtr> running_locked() const REQUIRES(mutex_);
  void forget_ended_locked() REQUIRES(mutex_);
  void work() EXCLUDES(mutex_);
  void look_at(const EntryPtr& entry, bool kick) EXCLUDES(mutex_);

  ObjectFetcher& flights_;
  mutable Mutex mutex_;
  CondVar changed_;
  std::list<EntryPtr> entries_ GUARDED_BY(mutex_);  // oldest first
  uint64_t last_number_ GUARDED_BY(mutex_) = 0;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::atomic<size_t> active_{0};  // that run or wait
  std::thread thread_ GUARDED_BY(mutex_);
};

// What `warm` answers.
nlohmann::json warm_answer(const WarmCounts& counts);

}  // namespace larder
