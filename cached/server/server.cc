#include "cached/server/server.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

#include <algorithm>
#include <chrono>
#include <optional>

#include "cached/base/log.h"

namespace larder {

static constexpr uint64_t kListener = 1, kPosted = 2, kSignals = 3, kKeeper = 4;
static constexpr int kTickMs = 250;
static constexpr int kRetryMs = 5;
// Of a client that has connected: a program asks at once. The deadline of one that does not is some seconds later.
static constexpr std::chrono::seconds kIdleBeforeDeadline{4};
static constexpr std::chrono::seconds kWarnEvery{10};
static constexpr rlim_t kLeastOpen = 16, kMostOpen = 1 << 20;

static size_t most_connections() {
  struct rlimit files;
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0) return kLeastOpen;
  return std::clamp(files.rlim_cur / 2, kLeastOpen, kMostOpen);
}

Result<std::unique_ptr<Server>> Server::listen(const std::string& path, bool is_private, Fd inherited) {
  std::unique_ptr<Server> s(new Server());
  Status b = inherited.valid() ? s->listener_.adopt(std::move(inherited), path) : s->listener_.open(path, is_private);
  if (!b) return b.error();
  Result<std::unique_ptr<Outbox>> outbox = Outbox::make();
  if (!outbox) return outbox.error();
  s->outbox_ = std::move(*outbox);
  sigset_t set;
  sigemptyset(&set);
  for (int sig : {SIGTERM, SIGINT})
    sigaddset(&set, sig);
  s->signals_ = Fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  s->epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!s->signals_.valid() || !s->epoll_.valid()) return os_error("cannot start the server");
  if (Status w = s->watch(s->listener_.fd(), kListener, EPOLLIN); !w) return w.error();
  if (Status w = s->watch(s->outbox_->event(), kPosted, EPOLLIN); !w) return w.error();
  if (Status w = s->watch(s->signals_.get(), kSignals, EPOLLIN); !w) return w.error();
  s->most_open_ = most_connections();
  s->last_request_ = Clock::now().time_since_epoch().count();
  return s;
}

Server::~Server() {
  for (auto& [id, c] : connections_)
    if (c.replier()) c.replier()->set_gone();
}

Server::Clock::time_point Server::last_request() const {
  return Clock::time_point(Clock::duration(last_request_.load()));
}

Status Server::serve_for(KeeperLink& keeper) {
  keeper_ = &keeper;
  return watch(keeper.fd(), kKeeper, EPOLLIN);
}

void Server::stop() {
  stop_ = true;
  outbox_->wake();
}

Status Server::watch(int fd, uint64_t id, uint32_t events) {
  struct epoll_event e = {};
  e.events = events;
  e.data.u64 = id;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &e) != 0) return os_error("cannot watch a descriptor");
  return {};
}

// Other events than before; hang-ups are told always.
void Server::watch_for(int fd, uint64_t id, uint32_t events) {
  struct epoll_event e = {};
  e.events = events;
  e.data.u64 = id;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &e);
}

// ---- the loop ------------------------------------------------------------------------------------

Status Server::run(Handler handler, std::function<Stamp()> stamp) {
  handler_ = std::move(handler);
  stamp_ = std::move(stamp);
  Clock::time_point next_check = Clock::now();
  while (!stop_) {
    struct epoll_event events[128];
    int n = ::epoll_wait(epoll_.get(), events, 128, starved_.empty() ? kTickMs : kRetryMs);
    if (n < 0 && errno != EINTR) return os_error("cannot wait for requests");
    for (int i = 0; i < n; ++i)
      on_event(events[i].data.u64, events[i].events);
    retry_starved();
    if (Clock::now() < next_check) continue;
    check_deadlines();
    show_signs_of_life();
    next_check = Clock::now() + std::chrono::milliseconds(kTickMs);
  }
  take_posted();  // the answer to the client that asked the daemon to end
  return {};
}

void Server::on_event(uint64_t id, uint32_t events) {
  if (id == kListener) return accept_all();
  if (id == kPosted) return take_posted();
  if (id == kKeeper) return take_from_keeper();
  if (id == kSignals) {
    spdlog::info("asked to end");
    stop_ = true;
    return;
  }
  auto it = connections_.find(id);
  if (it == connections_.end()) return;
  Connection& c = it->second;
  if (!c.replier() && (events & EPOLLIN)) return read_request(id, c);
  if (events & (EPOLLHUP | EPOLLERR)) return drop(id);
  if (events & EPOLLOUT) send(id, c);
}

void Server::check_deadlines() {
  Clock::time_point now = Clock::now();
  std::vector<uint64_t> late;
  for (auto& [id, c] : connections_)
    if (c.deadline() < now) late.push_back(id);
  for (uint64_t id : late)
    drop(id);
  if (accepting_) return;
  accepting_ = bool(watch(listener_.fd(), kListener, EPOLLIN));
}

// The requests are worked on: whoever works on one ends it.
void Server::show_signs_of_life() {
  const Clock::time_point now = Clock::now();
  std::vector<uint64_t> due;
  for (auto& [id, c] : connections_)
    if (c.sign_of_life_due(now)) due.push_back(id);
  for (uint64_t id : due)
    show_sign_of_life(id);
}

// ---- connections ---------------------------------------------------------------------------------

void Server::accept_all() {
  for (;;) {
    if (connections_.size() >= most_open_ && !drop_idle()) return pause_accepting();
    Fd fd = listener_.accept();
    if (fd.valid()) {
      add_connection(std::move(fd));
      continue;
    }
    if (errno == ECONNABORTED || errno == EINTR) continue;
    if ((errno == EMFILE || errno == ENFILE) && drop_idle()) continue;
    if (errno != EAGAIN) pause_accepting();  // EMFILE, ENFILE, ENOMEM: clients wait in the backlog
    return;
  }
}

// The one that connected first of those that have asked nothing; false: there is none.
bool Server::drop_idle() {
  auto oldest = connections_.end();
  for (auto it = connections_.begin(); it != connections_.end(); ++it) {
    const bool idle = !it->second.replier() && it->second.deadline() < Clock::now() + kIdleBeforeDeadline;
    if (idle && (oldest == connections_.end() || it->first < oldest->first)) oldest = it;
  }
  if (oldest == connections_.end()) return false;
  drop(oldest->first);
  return true;
}

void Server::take_from_keeper() {
  for (bool gone = false;;) {
    Fd fd = keeper_->next_connection(&gone);
    if (fd.valid()) {
      add_connection(std::move(fd));
      continue;
    }
    if (gone) spdlog::warn("the keeper has ended: ending, too");
    stop_ = stop_ || gone;
    return;
  }
}

void Server::pause_accepting() {
  if (const Clock::time_point now = Clock::now(); now - warned_ > kWarnEvery) {
    spdlog::warn("too few descriptors for further connections: {} are open; clients wait", connections_.size());
    warned_ = now;
  }
  accepting_ = false;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, listener_.fd(), nullptr);
}

void Server::add_connection(Fd fd) {
  const uint64_t id = next_id_++;
  std::optional<Peer> peer = read_peer(fd.get());
  if (!peer || !watch(fd.get(), id, EPOLLIN)) return;
  connections_.try_emplace(id, std::move(fd), std::move(*peer));
  open_ = connections_.size();
}

void Server::drop(uint64_t id) {
  auto it = connections_.find(id);
  if (it == connections_.end()) return;
  std::shared_ptr<Replier> replier = it->second.replier();
  connections_.erase(it);  // closing takes it out of epoll
  open_ = connections_.size();
  if (!accepting_ && open_ < most_open_) accepting_ = bool(watch(listener_.fd(), kListener, EPOLLIN));
  if (replier) replier->set_gone();
}

void Server::read_request(uint64_t id, Connection& c) {
  IncomingRequest request;
  const Connection::Read read = c.read(id, *outbox_, &request);
  if (read == Connection::Read::kNotYet) return;
  if (read == Connection::Read::kClosed) return drop(id);
  watch_for(c.fd(), id, 0);
  if (read == Connection::Read::kBadVersion) return c.replier()->fail(EPROTO);
  if (read == Connection::Read::kBadRequest) return c.replier()->fail(EINVAL);
  last_request_ = Clock::now().time_since_epoch().count();
  handler_(std::move(request));
  if (c.sign_of_life_due(Clock::now())) show_sign_of_life(id);
}

void Server::show_sign_of_life(uint64_t id) {
  Connection& c = connections_.at(id);
  if (c.queue(ReplyPacket::sign_of_life(c.replier()->op()))) send(id, c);
}

// ---- replies -------------------------------------------------------------------------------------

void Server::take_posted() {
  for (auto& [id, packet] : outbox_->take()) {
    auto it = connections_.find(id);
    if (it != connections_.end() && it->second.queue(std::move(packet))) send(id, it->second);
  }
}

void Server::send(uint64_t id, Connection& c) {
  switch (c.send(stamp_)) {
    case Connection::Sent::kAll:
    case Connection::Sent::kBroken:
      return drop(id);
    case Connection::Sent::kSome:
      return watch_for(c.fd(), id, 0);
    case Connection::Sent::kClientIsSlow:
      return watch_for(c.fd(), id, EPOLLOUT);
    case Connection::Sent::kNoResources:
      watch_for(c.fd(), id, 0);  // it may have been EPOLLOUT, which would be told without end
      return starved_.push_back(id);
  }
}

void Server::retry_starved() {
  std::vector<uint64_t> todo;
  todo.swap(starved_);
  for (uint64_t id : todo)
    if (auto it = connections_.find(id); it != connections_.end()) send(id, it->second);
}

}  // namespace larder
