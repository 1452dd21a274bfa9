#include "cached/store/auth/refreshing_credentials.h"

#include <algorithm>
#include <ctime>

namespace larder {

static constexpr int64_t kSecond = 1'000'000'000;
static constexpr int64_t kRefreshAhead = 15 * 60 * kSecond;  // botocore's advisory time
static constexpr std::chrono::seconds kLate{10};  // how much later than their predecessors' end keys may come
static constexpr std::chrono::seconds kAskAgain{1};
static constexpr std::chrono::seconds kRest{5};

static int64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  return t.tv_sec * kSecond + t.tv_nsec;
}

static bool same(const Credentials& a, const Credentials& b) {
  return a.access_key == b.access_key && a.secret_key == b.secret_key && a.session_token == b.session_token;
}

RefreshingCredentials::RefreshingCredentials(FetchCredentials fetch, std::shared_ptr<const Credentials> first)
    : fetch_(std::move(fetch)), credentials_(std::move(first)), wanted_(credentials_ == nullptr) {
  thread_ = std::thread([this] { run(); });
}

RefreshingCredentials::~RefreshingCredentials() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

Result<std::shared_ptr<const Credentials>> RefreshingCredentials::current() {
  MutexLock lock(mutex_);
  if (renewing_ || (!credentials_ && failure_.empty())) return make_error(EAGAIN, "credentials are being fetched");
  if (credentials_) return credentials_;
  return make_error(EACCES, "cannot get credentials: " + failure_);
}

bool RefreshingCredentials::refused(const Credentials* used, bool expired) {
  MutexLock lock(mutex_);
  if (renewing_ || credentials_.get() != used) return true;
  if (in_vain_ != Clock::time_point() && Clock::now() - in_vain_ < kRest) return false;
  renewing_ = wanted_ = true;
  renew_until_ = Clock::now() + (expired ? kLate : std::chrono::seconds(0));
  changed_.notify_all();
  return true;
}

std::string RefreshingCredentials::trouble() {
  MutexLock lock(mutex_);
  return failure_;
}

void RefreshingCredentials::run() {
  MutexLock lock(mutex_);
  while (!stop_) {
    const auto refresh_at = Clock::now() + until_refresh();
    while (!stop_ && !wanted_) {
      if (!changed_.wait_until(mutex_, refresh_at)) break;
    }
    if (stop_) return;
    wanted_ = false;
    if (renewing_)
      renew();
    else
      fetch_once();
  }
}

// Until there are others than those that were refused, or it is too late.
void RefreshingCredentials::renew() {
  const std::shared_ptr<const Credentials> old = credentials_;
  for (;;) {
    fetch_once();
    if (credentials_ != old || Clock::now() + kAskAgain > renew_until_) break;
    const auto ask_at = Clock::now() + kAskAgain;
    while (!stop_) {
      if (!changed_.wait_until(mutex_, ask_at)) break;
    }
    if (stop_) break;
  }
  if (credentials_ == old) in_vain_ = Clock::now();
  renewing_ = wanted_ = false;
}

// Old credentials stay when a fetch fails: they may still be good, and the store says so if not.
void RefreshingCredentials::fetch_once() {
  mutex_.unlock();
  Result<Credentials> fresh = fetch_();
  mutex_.lock();
  if (!fresh.ok()) {
    failure_ = fresh.error().message;
    ++failures_;
    return;
  }
  if (!credentials_ || !same(*credentials_, *fresh) || credentials_->expires_ns != fresh->expires_ns)
    credentials_ = std::make_shared<const Credentials>(std::move(*fresh));
  failure_.clear();
  failures_ = 0;
}

std::chrono::milliseconds RefreshingCredentials::until_refresh() const {
  if (failures_ > 0) return std::chrono::seconds(std::min(60, 1 << std::min(failures_, 6)));
  if (!credentials_ || credentials_->expires_ns == 0) return std::chrono::hours(24 * 365);
  const int64_t left = credentials_->expires_ns - now_ns();
  const int64_t wait = left > 2 * kRefreshAhead ? left - kRefreshAhead : left / 2;
  return std::chrono::milliseconds(std::max<int64_t>(wait / 1'000'000, 1000));
}

}  // namespace larder
