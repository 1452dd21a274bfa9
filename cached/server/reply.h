// Replies to requests: a Replier makes packets on any thread, an Outbox carries them to the server's thread.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cached/base/fd.h"
#include "cached/base/mutex.h"
#include "cached/server/peer.h"
#include "larder/wire.h"

namespace larder {

// One reply, ready to be sent but for the stamp (generation and instance), which is added when it is sent.
struct ReplyPacket {
  Reply header{};
  std::string payload;
  std::vector<std::shared_ptr<Fd>> fds;
  std::shared_ptr<Fd> reopen;  // sent as a fresh O_RDONLY descriptor of this file

  bool is_last() const { return !(header.flags & kReplyMore); }
  // Says that another reply follows, and nothing else.
  static ReplyPacket sign_of_life(Op op);
};

// Packets on their way to the server's thread, in the order in which they were posted. Thread-safe.
class Outbox {
 public:
  using Posted = std::vector<std::pair<uint64_t, ReplyPacket>>;  // connection, packet

  static Result<std::unique_ptr<Outbox>> make();

  void post(uint64_t connection, ReplyPacket packet) EXCLUDES(mutex_);
  // All that was posted since the last call. On the server's thread.
  Posted take() EXCLUDES(mutex_);
  // Becomes readable when something is posted, or by wake(), and stays so until take().
  int event() const { return event_.get(); }
  void wake();

 private:
  explicit Outbox(Fd event) : event_(std::move(event)) {}

  const Fd event_;
  Mutex mutex_;
  Posted posted_ GUARDED_BY(mutex_);
};

// Answers one request: any number of replies that say more follows, then a final one. What comes after the final reply
// or after the client has gone is dropped. Thread-safe; may outlive the connection and the server.
class Replier {
 public:
  // The outbox lives until set_gone() is called.
  Replier(Outbox* outbox, uint64_t connection, Op op) : connection_(connection), op_(op), outbox_(outbox) {}

  // The final reply of success, without descriptors or payload.
  void done();
  // The final reply of failure: an errno, never 0.
  void fail(int status);
  // EMSGSIZE, as the final reply, if the payload is larger than a packet.
  void text(int status, std::string payload, bool more = false);
  void descriptors(std::vector<std::shared_ptr<Fd>> fds, uint64_t generation);
  void fresh_descriptor(std::shared_ptr<Fd> file);
  Op op() const { return op_; }
  // True once the client has gone, also if it has its final reply.
  bool gone() const { return gone_.load(); }
  // `callback` runs on the server's thread if the client goes before the final reply, or at once if it has gone. No
  // lock is held. One callback at a time: a later one replaces it.
  void when_gone(std::function<void()> callback) EXCLUDES(mutex_);

  // The connection is closed. For the server.
  void set_gone() EXCLUDES(mutex_);

 private:
  void send(ReplyPacket packet) EXCLUDES(mutex_);

  const uint64_t connection_;
  const Op op_;
  std::atomic<bool> gone_{false};
  Mutex mutex_;  // taken before Outbox::mutex_
  Outbox* outbox_ GUARDED_BY(mutex_);
  bool finished_ GUARDED_BY(mutex_) = false;
  std::function<void()> when_gone_ GUARDED_BY(mutex_);
};

// What a handler gets.
struct IncomingRequest {
  Request header{};
  std::string payload;
  Peer peer;
  std::shared_ptr<Replier> reply;
};

}  // namespace larder
