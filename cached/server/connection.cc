#include "cached/server/connection.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "cached/base/log.h"

namespace larder {

static constexpr std::chrono::seconds kRequestTime{5};  // from connecting to the request: a program sends it at once
static constexpr std::chrono::seconds kReplyTime{10};   // that a client may leave a reply in its buffer
static constexpr std::chrono::milliseconds kSignEvery{kSignOfLifeMs};
static constexpr size_t kMaxQueuedReplies = 16;  // progress replies that a client does not take are dropped

static bool out_of_resources(int err) {
  return err == EMFILE || err == ENFILE || err == ENOMEM || err == ETOOMANYREFS || err == ENOBUFS;
}

static std::chrono::steady_clock::time_point first_sign(const Request& header) {
  const auto now = std::chrono::steady_clock::now();
  return header.accepts & kAcceptsASignAtOnce ? now : now + kSignEvery;
}

Connection::Connection(Fd fd, Peer peer)
    : fd_(std::move(fd)), peer_(std::move(peer)), deadline_(Clock::now() + kRequestTime) {}

// ---- the request ---------------------------------------------------------------------------------

Connection::Read Connection::read(uint64_t id, Outbox& outbox, IncomingRequest* request) {
  static thread_local std::vector<char> buffer(kMaxPacket + 1);
  const ssize_t n = ::recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return Read::kNotYet;
  if (n <= 0) return Read::kClosed;
  const size_t len = static_cast<size_t>(n);
  Request& header = request->header;
  memcpy(&header, buffer.data(), std::min(len, sizeof header));
  if (len < sizeof header || header.magic != kWireMagic) return Read::kClosed;
  replier_ = std::make_shared<Replier>(&outbox, id, header.op);
  deadline_ = Clock::time_point::max();
  if (header.version != kWireVersion) return Read::kBadVersion;
  if (len > kMaxPacket || header.payload_len != len - sizeof header || header.flags != 0) return Read::kBadRequest;
  request->payload.assign(buffer.data() + sizeof header, len - sizeof header);
  if (header.op != Op::kAdmin && (header.accepts & kAcceptsSignsOfLife)) next_sign_ = first_sign(header);
  peer_.groups = read_peer_groups(fd_.get());
  request->peer = peer_;
  request->reply = replier_;
  return Read::kRequest;
}

// ---- replies -------------------------------------------------------------------------------------

bool Connection::sign_of_life_due(Clock::time_point now) {
  if (now < next_sign_ || last_queued_) return false;
  next_sign_ = now + kSignEvery;
  return true;
}

bool Connection::queue(ReplyPacket packet) {
  if (packet.is_last()) {
    last_queued_ = true;
    deadline_ = Clock::now() + kReplyTime;
  } else if (queue_.size() >= kMaxQueuedReplies) {
    return false;
  }
  queue_.push_back(std::move(packet));
  return queue_.size() == 1;
}

Connection::Sent Connection::send(const std::function<ReplyStamp()>& stamp) {
  while (!queue_.empty()) {
    const Sent sent = send_first(stamp());
    if (sent != Sent::kAll) return sent;
    queue_.pop_front();
    opened_.reset();
  }
  return last_queued_ ? Sent::kAll : Sent::kSome;
}

// A fresh descriptor has an offset of its own. kAll: it is open, or the packet says EIO instead.
Connection::Sent Connection::reopen(ReplyPacket& p) {
  const std::string self = fmt::format("/proc/self/fd/{}", p.reopen->get());
  opened_ = Fd(::open(self.c_str(), O_RDONLY | O_CLOEXEC));
  if (opened_.valid()) return Sent::kAll;
  const int err = errno;  // a logger may change errno before it formats
  if (out_of_resources(err)) return Sent::kNoResources;
  spdlog::error("cannot open a cache file again: errno {}; is /proc there?", err);
  p.reopen.reset();
  p.header.status = EIO;
  p.header.fd_count = 0;
  return Sent::kAll;
}

Connection::Sent Connection::send_first(const ReplyStamp& stamp) {
  ReplyPacket& p = queue_.front();
  if (p.reopen && !opened_.valid())
    if (Sent opened = reopen(p); opened != Sent::kAll) return opened;
  int fds[kMaxHelloFds + 1];
  size_t count = 0;
  for (auto& fd : p.fds)
    fds[count++] = fd->get();
  if (opened_.valid()) fds[count++] = opened_.get();
  if (p.header.generation == 0) p.header.generation = stamp.generation;
  p.header.instance = stamp.instance;
  struct iovec parts[2] = {{&p.header, sizeof p.header}, {p.payload.data(), p.payload.size()}};
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof fds)] = {};
  struct msghdr m = {};
  m.msg_iov = parts;
  m.msg_iovlen = 2;
  if (count > 0) {
    m.msg_control = control;
    m.msg_controllen = CMSG_SPACE(count * sizeof(int));
    struct cmsghdr* h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(h), fds, count * sizeof(int));
  }
  if (::sendmsg(fd_.get(), &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return Sent::kAll;
  if (errno == EAGAIN || errno == EINTR) return Sent::kClientIsSlow;
  return out_of_resources(errno) ? Sent::kNoResources : Sent::kBroken;
}

}  // namespace larder
