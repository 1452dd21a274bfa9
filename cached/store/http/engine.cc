#include "cached/store/http/engine.h"

#include <algorithm>
#include <csignal>

#include "cached/store/http/transport_thread.h"

namespace larder {

static Error closed() {
  return make_error(EIO, "the store is being closed");
}

HttpEngine::HttpEngine(EngineOptions options)
    : options_(std::move(options)),
      concurrency_(options_.max_connections),
      slowest_(std::chrono::milliseconds(options_.slow_after_ms)),
      request_cap_(options_.max_requests_per_second),
      byte_cap_(options_.max_bandwidth) {
  signal(SIGPIPE, SIG_IGN);  // CURLOPT_NOSIGNAL leaves it to us
  for (int i = 0; i < std::max(1, options_.threads); ++i) {
    if (options_.plain) workers_[1].push_back(make_plain_worker(*this));
    if (!options_.plain || i == 0) workers_[0].push_back(make_curl_worker(*this));
  }
  for (auto& workers : workers_) {
    for (auto& worker : workers)
      worker->start();
  }
}

HttpEngine::~HttpEngine() {
  {
    MutexLock lock(mutex_);
    closing_ = true;
  }
  for (auto& workers : workers_) {
    for (auto& worker : workers)
      worker->stop();
  }
  const Error error = closed();
  for (auto& by_kind : queues_) {
    for (auto& jobs : by_kind) {
      for (auto& job : jobs)
        job.exchange->abandoned(error);
    }
  }
}

void HttpEngine::submit(std::shared_ptr<HttpAttempt> exchange, bool demand) {
  MutexLock lock(mutex_);
  if (closing_) {
    lock.unlock();
    return exchange->abandoned(closed());
  }
  const bool plain = options_.plain && exchange->object_get();
  queue(demand, plain).push_back({std::move(exchange), demand, plain});
  if (!concurrency_.may_start(demand)) return;  // whoever ends a transfer takes it
  lock.unlock();
  wake_one(plain);
}

void HttpEngine::hurry(std::string_view key) {
  bool moved[2] = {};
  {
    MutexLock lock(mutex_);
    for (bool plain : {false, true}) {
      auto& fill = queue(false, plain);
      for (auto it = fill.begin(); it != fill.end();) {
        if (it->exchange->key() != key) {
          ++it;
          continue;
        }
        it->demand = moved[plain] = true;
        queue(true, plain).push_back(std::move(*it));
        it = fill.erase(it);
      }
    }
  }
  for (bool plain : {false, true})
    if (moved[plain]) wake_one(plain);
}

bool HttpEngine::take(const TransportThread& who, bool plain, Job& job, Clock::time_point& ask_again) {
  ask_again = Clock::time_point::max();
  MutexLock lock(mutex_);
  TransportThread& first = *workers_[plain].front();
  if (&who != &first && !first.busy()) {  // one thread that does it all costs less than two that share it
    if (queue(true, plain).empty() && queue(false, plain).empty()) return false;
    lock.unlock();
    first.wake();
    return false;
  }
  for (bool demand : {true, false}) {
    auto& jobs = queue(demand, plain);
    if (jobs.empty() || !concurrency_.may_start(demand)) continue;
    const auto now = Clock::now();
    if (auto wait = std::max(request_cap_.wait(demand, now), byte_cap_.wait(demand, now)); wait.count() > 0) {
      ask_again = std::min(ask_again, now + wait);
      continue;
    }
    job = std::move(jobs.front());
    jobs.pop_front();
    concurrency_.started(demand);
    request_cap_.charge(demand, 1, now);
    byte_cap_.charge(demand, static_cast<double>(job.exchange->expected_bytes()), now);
    return true;
  }
  return false;
}

void HttpEngine::put_back(Job job) {
  MutexLock lock(mutex_);
  auto& jobs = queue(job.demand, job.plain);
  jobs.push_front(std::move(job));
}

// A slot that comes free may be the other kind's: that one is woken, as it waits for events of its own only.
void HttpEngine::release(const Job& job, Concurrency::Outcome outcome, std::chrono::microseconds first_byte) {
  bool others;
  {
    MutexLock lock(mutex_);
    concurrency_.ended(job.demand, outcome, first_byte, Clock::now());
    if (first_byte.count() > 0) slowest_.add(first_byte);
    others = !queue(true, !job.plain).empty() || !queue(false, !job.plain).empty();
  }
  if (others) wake_one(!job.plain);
}

void HttpEngine::wake_one(bool plain) {
  auto& workers = workers_[plain];
  auto idle = std::find_if(workers.begin(), workers.end(), [](auto& w) { return !w->busy(); });
  (idle == workers.end() ? workers.front() : *idle)->wake();
}

int HttpEngine::concurrency_limit() const {
  MutexLock lock(mutex_);
  return concurrency_.limit();
}

std::chrono::milliseconds HttpEngine::slow_after() const {
  MutexLock lock(mutex_);
  return slowest_.after();
}

uint64_t HttpEngine::in_flight() const {
  MutexLock lock(mutex_);
  return static_cast<uint64_t>(concurrency_.active());
}

uint64_t HttpEngine::queued() const {
  MutexLock lock(mutex_);
  uint64_t count = 0;
  for (auto& by_kind : queues_) {
    for (auto& jobs : by_kind)
      count += jobs.size();
  }
  return count;
}

}  // namespace larder
