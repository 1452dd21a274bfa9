#include "cached/keeper/greeter.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "cached/keeper/frames.h"

namespace larder::keeper {
namespace {

constexpr int64_t kSilenceMs = 5'000;    // from connecting to the request, as larderd's own
constexpr int64_t kPatienceMs = 60'000;  // that a request is kept while there is no larderd

void answer(int fd, Op op, int status) {
  Reply reply = {};
  reply.magic = kWireMagic;
  reply.version = kWireVersion;
  reply.op = op;
  reply.status = status;
  send_packet(fd, &reply, sizeof reply, nullptr, 0);
}

bool uid_of(int fd, uid_t* uid) {
  ucred peer;
  socklen_t size = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  *uid = peer.uid;
  return true;
}

bool is_plain(const Request& r, Op op) {
  return r.magic == kWireMagic && r.version == kWireVersion && r.op == op && r.payload_len == 0 && r.flags == 0;
}

}  // namespace

int64_t now_ms() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return int64_t{t.tv_sec} * 1000 + t.tv_nsec / 1'000'000;
}

void Greeting::replace(const KeeperFrame& frame, const int* from, int n) {
  for (int i = 0; i < count; ++i)
    close(fds[i]);
  reply = frame.reply;
  only_uid = frame.only_uid;
  count = n;
  memcpy(fds, from, sizeof(int) * static_cast<size_t>(n));
}

// ---- one client -----------------------------------------------------------------------------------------------------

bool Greeter::greet(int fd) {
  uid_t uid = 0;
  if (greeting.count == 0 || !uid_of(fd, &uid)) return false;
  if (greeting.only_uid != kAnyUid && uid != 0 && uid != greeting.only_uid) return false;
  Request read;  // a socket that is closed with something unread in it is reset, and the answer lost
  if (recv(fd, &read, sizeof read, MSG_DONTWAIT) != sizeof read) return true;
  send_packet(fd, &greeting.reply, sizeof greeting.reply, greeting.fds, greeting.count);
  return true;
}

// What only the keeper can do. False: it is larderd's to answer.
bool Greeter::order_of(int fd, const Request& request, Order* order) {
  const bool launch = may_launch && is_plain(request, kLaunch);
  if (!launch && !is_plain(request, kEndKeeper)) return false;
  uid_t uid = 0;
  int fds[kMostDescriptors], count = 0;
  Request read;
  const bool whole = receive_packet(fd, &read, sizeof read, fds, &count, nullptr) == sizeof read;
  const bool allowed = uid_of(fd, &uid) && (uid == 0 || uid == geteuid());
  const bool good = whole && allowed && count == (launch ? 3 : 0);
  answer(fd, request.op, good ? 0 : allowed ? EINVAL : EPERM);
  for (int i = 0; i < count; ++i) {
    if (good)
      order->fds[i] = fds[i];
    else
      close(fds[i]);
  }
  if (good) order->kind = launch ? Order::kLaunch : Order::kEnd;
  return true;
}

bool Greeter::look(Held* held, bool running, Order* order) {
  if (held->asked) return false;
  Request request;
  const ssize_t n = recv(held->fd, &request, sizeof request, MSG_PEEK | MSG_DONTWAIT | MSG_TRUNC);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (n <= 0) return true;
  if (n == sizeof request && is_plain(request, Op::kHello) && greet(held->fd)) return true;
  if (n == sizeof request && !running && order->kind <= Order::kStart && order_of(held->fd, request, order))
    return true;
  held->asked = true;
  held->until_ms = now_ms() + kPatienceMs;
  if (order->kind == Order::kNone) order->kind = Order::kStart;
  return false;
}

// ---- all clients ----------------------------------------------------------------------------------------------------

void Greeter::drop(int i) {
  close(held_[i].fd);
  held_[i] = held_[--count_];
}

Order Greeter::accept_all(int listener, bool running) {
  Order order;
  while (!is_full()) {
    const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) break;
    held_[count_++] = {fd, false, now_ms() + kSilenceMs};
    if (look(&held_[count_ - 1], running, &order)) drop(count_ - 1);
  }
  return order;
}

// Backwards: drop() puts the last one, which was looked at, into the gap.
Order Greeter::look_again(const struct pollfd* polled, bool running) {
  Order order;
  for (int i = count_ - 1; i >= 0; --i) {
    const bool gone = (polled[i].revents & (POLLHUP | POLLERR)) != 0;
    if (gone || look(&held_[i], running, &order) || held_[i].until_ms < now_ms()) drop(i);
  }
  return order;
}

void Greeter::hand_over(int channel) {
  KeeperFrame frame = {};
  frame.magic = kKeeperMagic;
  frame.op = KeeperOp::kConnection;
  while (count_ > 0) {
    if (send_packet(channel, &frame, sizeof frame, &held_[0].fd, 1) < 0) return;
    drop(0);
  }
}

void Greeter::drop_all() {
  while (count_ > 0)
    drop(count_ - 1);
}

int Greeter::watch(struct pollfd* out) const {
  int n = 0;
  for (int i = 0; i < count_; ++i)
    out[n++] = {held_[i].fd, static_cast<short>(held_[i].asked ? 0 : POLLIN), 0};
  return n;
}

}  // namespace larder::keeper
