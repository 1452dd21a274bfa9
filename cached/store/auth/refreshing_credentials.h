// Credentials that are fetched again on a thread of their own: half their life or 15 minutes before they expire, and
// when the store refuses them.
//
// While refused keys are fetched again, current() returns EAGAIN and signers wait. Successors of expired keys may come
// a moment late (a sidecar writes a file), so the fetch is repeated for 10 s. After a fetch that brought nothing new,
// there is no other one at once: requests are refused meanwhile. Threads: any.
#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "cached/base/mutex.h"
#include "cached/store/auth/credentials.h"

namespace larder {

using FetchCredentials = std::function<Result<Credentials>()>;

class RefreshingCredentials final : public CredentialsProvider {
 public:
  // Without `first`, the first fetch starts at once, in the background.
  explicit RefreshingCredentials(FetchCredentials fetch, std::shared_ptr<const Credentials> first = nullptr);
  ~RefreshingCredentials() override;
  Result<std::shared_ptr<const Credentials>> current() override;
  bool refused(const Credentials* used, bool expired) override;
  std::string trouble() override;

 private:
  using Clock = std::chrono::steady_clock;
  void run();
  void fetch_once() REQUIRES(mutex_);  // releases the lock while it fetches
  void renew() REQUIRES(mutex_);
  std::chrono::milliseconds until_refresh() const REQUIRES(mutex_);

  const FetchCredentials fetch_;
  Mutex mutex_;
  CondVar changed_;
  std::shared_ptr<const Credentials> credentials_ GUARDED_BY(mutex_);
  std::string failure_ GUARDED_BY(mutex_);  // of the last fetch
  int failures_ GUARDED_BY(mutex_) = 0;
  bool wanted_ GUARDED_BY(mutex_);
  bool renewing_ GUARDED_BY(mutex_) = false;  // the current keys were refused
  Clock::time_point renew_until_ GUARDED_BY(mutex_){};
  Clock::time_point in_vain_ GUARDED_BY(mutex_){};  // when a renewal brought nothing new
  bool stop_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace larder
