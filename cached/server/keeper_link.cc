#include "cached/server/keeper_link.h"

#include <sys/socket.h>

#include <cstring>

#include "cached/base/log.h"

namespace larder {

static void send_frame(int channel, KeeperFrame frame, const std::vector<int>& fds) {
  frame.magic = kKeeperMagic;
  struct iovec part = {&frame, sizeof frame};
  struct msghdr m = {};
  m.msg_iov = &part;
  m.msg_iovlen = 1;
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxHelloFds)] = {};
  if (!fds.empty()) {
    m.msg_control = control;
    m.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    struct cmsghdr* c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    memcpy(CMSG_DATA(c), fds.data(), fds.size() * sizeof(int));
  }
  if (::sendmsg(channel, &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return;
  const int err = errno;  // a logger may change errno before it formats
  spdlog::warn("the keeper does not listen: errno {}", err);
}

void KeeperLink::store_greeting(const Reply& reply, uint32_t only_uid, const std::vector<int>& fds) {
  KeeperFrame frame = {};
  frame.op = KeeperOp::kGreeting;
  frame.only_uid = only_uid;
  frame.reply = reply;
  send_frame(channel_.get(), frame, fds);
}

void KeeperLink::say(KeeperOp op) {
  KeeperFrame frame = {};
  frame.op = op;
  send_frame(channel_.get(), frame, {});
}

// A frame, with its descriptor if it has one; at most one fits.
Fd KeeperLink::next_connection(bool* gone) {
  *gone = false;
  for (;;) {
    KeeperFrame frame = {};
    struct iovec part = {&frame, sizeof frame};
    alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    struct msghdr m = {};
    m.msg_iov = &part;
    m.msg_iovlen = 1;
    m.msg_control = control;
    m.msg_controllen = sizeof control;
    const ssize_t n = ::recvmsg(channel_.get(), &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && errno == EINTR) continue;
    *gone = n == 0 || (n < 0 && errno == ECONNRESET);
    if (n <= 0) return {};
    const struct cmsghdr* c = CMSG_FIRSTHDR(&m);
    if (!c || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(int))) continue;  // a probe
    int fd;
    memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return Fd(fd);
  }
}

}  // namespace larder
