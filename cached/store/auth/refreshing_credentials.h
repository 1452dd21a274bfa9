// Credentials that are fetched again on a thread of their own: half their life or 15 minutes before they expire, and
// when the store refuses them.
//
// While refused keys are fetched again, current() returns EAGAIN and signers wait. Successors of expired keys may come
// a moment late (a sidecar writes a file), so the fetch is repeated for 10 s. After a fetch that brought nothing new,
// there is no other one at once: requests are refused meanwhile. Threads: any.
#pragma once
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

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
  void fetch_once(std::unique_lock<std::mutex>& lock);
  void renew(std::unique_lock<std::mutex>& lock);
  std::chrono::milliseconds until_refresh() const;

  const FetchCredentials fetch_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<const Credentials> credentials_;
  std::string failure_;  // of the last fetch
  int failures_ = 0;
  bool wanted_;
  bool renewing_ = false;  // the current keys were refused
  Clock::time_point renew_until_{};
  Clock::time_point in_vain_{};  // when a renewal brought nothing new
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace larder
