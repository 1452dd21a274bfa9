// The channel to the keeper that started larderd (include/larder/keeper.h): greetings for it to hand out, and
// connections that it took because larderd did not.
//
// next_connection() is the server's thread's; the rest is for any thread.
#pragma once
#include <vector>

#include "cached/base/fd.h"
#include "larder/keeper.h"

namespace larder {

class KeeperLink {
 public:
  explicit KeeperLink(Fd channel) : channel_(std::move(channel)) {}

  int fd() const { return channel_.get(); }

  // Stores what programs get while larderd does not answer. At most kMaxHelloFds descriptors, which stay the caller's.
  // A keeper that does not read (it is stopped) keeps the one before.
  void store_greeting(const Reply& reply, uint32_t only_uid, const std::vector<int>& fds);
  // kIdle or kEnd.
  void say(KeeperOp op);

  // The next connection that the keeper hands over; invalid if there is none. *gone: the keeper has ended.
  Fd next_connection(bool* gone);

 private:
  const Fd channel_;
};

}  // namespace larder
