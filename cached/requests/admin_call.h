// One request of the command line, as its command sees it: who asks, with which arguments, and the way to tell
// progress.
#pragma once
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>

#include <nlohmann/json.hpp>

#include "cached/namespace/mount.h"
#include "cached/requests/arguments.h"
#include "cached/server/reply.h"

namespace larder {

// The result, or the error whose message the user reads.
using AdminAnswer = Result<nlohmann::json>;

// An answer lists at most so many files or keys: a reply is one packet.
inline constexpr size_t kMaxListed = 100;
inline constexpr std::chrono::milliseconds kProgressEvery{200};

// Sends a final reply. Bytes of names that are not UTF-8 are replaced.
void send_answer(Replier& reply, const AdminAnswer& answer);

class AdminCall {
 public:
  using Clock = std::chrono::steady_clock;
  using MayAdminister = std::function<bool(const Peer&)>;

  // `stopping` and `may_administer` outlive the call.
  AdminCall(nlohmann::json args, Peer peer, std::shared_ptr<Replier> reply, const std::atomic<bool>& stopping,
            const MayAdminister& may_administer);

  Arguments arguments() const { return Arguments(args_); }
  const Peer& peer() const { return peer_; }
  // May take long: see may_administer.h.
  bool may_administer() const { return may_administer_(peer_); }
  // The client has gone, or the daemon ends.
  bool cancelled() const { return reply_->gone() || stopping_.load(); }
  // When the asker started, by its "age_ms": at most an hour ago.
  Clock::time_point asked() const;
  // Sends at most five packets a second. For one thread; the call outlives it.
  Progress progress() const;
  // The final reply; later ones are dropped, and all if it is left to somebody else.
  void answer(const AdminAnswer& answer) const {
    if (!deferred_) send_answer(*reply_, answer);
  }
  // Whoever keeps reply() answers, after the command has returned.
  void defer() const { deferred_ = true; }
  const std::shared_ptr<Replier>& reply() const { return reply_; }

 private:
  const nlohmann::json args_;
  const Peer peer_;
  const std::shared_ptr<Replier> reply_;
  const std::atomic<bool>& stopping_;
  const MayAdminister& may_administer_;
  const Clock::time_point received_ = Clock::now();
  mutable bool deferred_ = false;
};

}  // namespace larder
