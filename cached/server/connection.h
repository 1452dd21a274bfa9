// One client's connection: its request is read, its replies are queued and sent. Nothing blocks. On the server's
// thread.
#pragma once
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>

#include "cached/base/fd.h"
#include "cached/server/reply.h"

namespace larder {

// What every reply tells of the daemon.
struct ReplyStamp {
  uint64_t generation, instance;
};

class Connection {
 public:
  using Clock = std::chrono::steady_clock;
  enum class Read { kNotYet, kClosed, kBadVersion, kBadRequest, kRequest };
  enum class Sent { kAll, kSome, kClientIsSlow, kNoResources, kBroken };

  Connection(Fd fd, Peer peer);

  int fd() const { return fd_.get(); }
  // Closed if nothing comes until then: no request, or a reply that is not taken. None while a request is answered.
  Clock::time_point deadline() const { return deadline_; }
  // A sign of life is due: the client understands it, waits for a reply, and was told nothing for kSignOfLifeMs. Tells
  // so once for each.
  bool sign_of_life_due(Clock::time_point now);
  // Null until the request was read.
  const std::shared_ptr<Replier>& replier() const { return replier_; }

  // Reads the one request, with the peer's groups. `id` is the connection's in the outbox. With kBadVersion and
  // kBadRequest there is a replier, too; kClosed is also said of garbage.
  Read read(uint64_t id, Outbox& outbox, IncomingRequest* request);
  // Queues a reply; drops one that says more follows if the client takes none. True: nothing was queued before.
  bool queue(ReplyPacket packet);
  // Sends what is queued. kAll: the final reply was sent. kSome: the queue is empty, and more is to come.
  // kClientIsSlow: its socket is full. kNoResources: out of descriptors or memory; to be tried again later.
  Sent send(const std::function<ReplyStamp()>& stamp);

 private:
  Sent send_first(const ReplyStamp& stamp);
  Sent reopen(ReplyPacket& packet);

  const Fd fd_;
  Peer peer_;
  Clock::time_point deadline_;
  std::shared_ptr<Replier> replier_;
  std::deque<ReplyPacket> queue_;
  Fd opened_;  // of the first packet's `reopen`
  bool last_queued_ = false;
  Clock::time_point next_sign_ = Clock::time_point::max();
};

}  // namespace larder
