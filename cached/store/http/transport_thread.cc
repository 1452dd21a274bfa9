#include "cached/store/http/transport_thread.h"

#include <algorithm>

namespace larder {

thread_local HttpEngine::TransportThread* HttpEngine::TransportThread::current_ = nullptr;

void HttpEngine::TransportThread::start() {
  thread_ = std::thread([this] {
    current_ = this;
    run();
  });
}

void HttpEngine::TransportThread::stop() {
  stop_.store(true);
  interrupt();
  thread_.join();
}

void HttpEngine::TransportThread::wake() {
  if (current_ != this && !woken_.exchange(true)) interrupt();
}

bool HttpEngine::TransportThread::next_job(bool plain, Job& job) {
  woken_.store(false);
  if (!waiting_.empty()) {
    for (const auto now = Clock::now(); !waiting_.empty() && waiting_.begin()->first <= now;) {
      engine_.put_back(std::move(waiting_.begin()->second));
      waiting_.erase(waiting_.begin());
    }
  }
  return engine_.take(*this, plain, job, ask_again_);
}

void HttpEngine::TransportThread::conclude(Job job, const HttpReply& reply) {
  const Verdict verdict = job.exchange->on_end(reply);
  if (!verdict.again) return;
  if (verdict.wait.count() <= 0) {
    engine_.put_back(std::move(job));
  } else {
    wait_with(std::move(job), verdict.wait);
  }
}

std::chrono::milliseconds HttpEngine::TransportThread::may_wait(Clock::time_point now,
                                                                std::chrono::milliseconds most) const {
  auto until = std::min(now + most, ask_again_);
  if (!waiting_.empty()) until = std::min(until, waiting_.begin()->first);
  return std::max(std::chrono::milliseconds(0), std::chrono::ceil<std::chrono::milliseconds>(until - now));
}

void HttpEngine::TransportThread::after_wait(Clock::time_point now) {
  worked_ += slept_at_ - woke_at_;
  waited_ += now - slept_at_;
  woke_at_ = now;
  const auto all = worked_ + waited_;
  if (all < std::chrono::milliseconds(20)) return;
  busy_.store(static_cast<float>(worked_.count()) / static_cast<float>(all.count()), std::memory_order_relaxed);
  worked_ = waited_ = {};
}

void HttpEngine::TransportThread::abandon_waiting(const Error& error) {
  for (auto& [when, job] : waiting_)
    job.exchange->abandoned(error);
  waiting_.clear();
}

Concurrency::Outcome outcome_of(const HttpReply& reply) {
  using T = HttpReply::Transport;
  if (reply.status == 503 || reply.status == 429) return Concurrency::Outcome::kThrottled;
  if (reply.transport == T::kConnect || reply.transport == T::kTimeout) return Concurrency::Outcome::kThrottled;
  return reply.transport == T::kOk && reply.status < 500 ? Concurrency::Outcome::kSuccess
                                                         : Concurrency::Outcome::kOther;
}

}  // namespace larder
