// Connections that larderd does not accept: a greeting is answered from the copy that larderd stored, what else a
// client wants is kept unread until larderd is there. Nothing blocks.
#pragma once
#include <poll.h>
#include <stdint.h>

#include "larder/keeper.h"

namespace larder::keeper {

inline constexpr int kMostHeld = 256;

// The answer to a greeting, as larderd sent it.
struct Greeting {
  Reply reply = {};
  uint32_t only_uid = kAnyUid;
  int fds[kMaxHelloFds];
  int count = 0;  // 0: there is none

  // Takes the descriptors.
  void replace(const KeeperFrame& frame, const int* fds, int count);
};

// What a client that was not handed on asks of the keeper itself.
struct Order {
  enum Kind { kNone, kStart, kLaunch, kEnd } kind = kNone;
  int fds[3] = {-1, -1, -1};  // kLaunch: configuration, environment, log; the caller's
};

class Greeter {
 public:
  // Accepts all who wait at the listening socket, as far as there is room. `running`: there is a larderd, which answers
  // what is not a greeting. The order is what the last of them wants of the keeper.
  Order accept_all(int listener, bool running);
  // Entries for poll(2), one a client in order; how many.
  int watch(struct pollfd* out) const;
  // Looks again at the clients that poll(2) tells of; drops those that went, or took too long.
  Order look_again(const struct pollfd* polled, bool running);
  // Gives all that is held to larderd, as far as the channel takes it.
  void hand_over(int channel);
  // Closes all: larderd cannot be started.
  void drop_all();

  bool is_full() const { return count_ == kMostHeld; }
  int held() const { return count_; }

  Greeting greeting;
  bool may_launch = false;  // kLaunch is obeyed: a node's larderd is started as its unit says, and in no other way

 private:
  struct Held {
    int fd;
    bool asked;  // its request is there, unread
    int64_t until_ms;
  };
  // True: the client was answered, or has gone.
  bool look(Held* held, bool running, Order* order);
  bool greet(int fd);
  bool order_of(int fd, const Request& request, Order* order);
  void drop(int i);

  Held held_[kMostHeld];
  int count_ = 0;
};

// CLOCK_MONOTONIC.
int64_t now_ms();

}  // namespace larder::keeper
