#include "cached/store/http/plain_transport.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace larder {

using Transport = HttpReply::Transport;

static constexpr std::chrono::milliseconds kSweepEvery{250};
static constexpr std::chrono::milliseconds kCredentialsWait{50};
static constexpr std::chrono::seconds kKeepIdle{60};
// The first read of a reply. More than a head, little enough to be copied to where the body goes; or all of it, if it
// is small and passed on from here: one system call and cold memory less, 3 us of 60.
static constexpr size_t kHeadRead = 4096;
static constexpr size_t kScratch = 256 * 1024;
static constexpr size_t kReadAtOnce = 1 << 20;  // of one connection before the others are looked at again
static constexpr size_t kMaxErrorBody = 64 * 1024;
// How long a whole body may wait for others to be hashed with, while there is nothing else to do: a part of the time
// that its GET took.
static constexpr int kWaitOfDemand = 16, kWaitOfFill = 2;
static constexpr std::chrono::milliseconds kMostWait{20};

std::unique_ptr<HttpEngine::TransportThread> HttpEngine::make_plain_worker(HttpEngine& engine) {
  return std::make_unique<PlainTransport>(engine);
}

static void ring(const Fd& event) {
  const uint64_t one = 1;
  (void)!::write(event.get(), &one, sizeof one);
}

HttpEngine::PlainTransport::PlainTransport(HttpEngine& engine)
    : TransportThread(engine),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      wake_(std::make_shared<Fd>(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))),
      resolver_([event = wake_] { ring(*event); }),
      scratch_(kScratch) {
  epoll_event e{};
  e.events = EPOLLIN;
  e.data.ptr = nullptr;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_->get(), &e);
}

void HttpEngine::PlainTransport::interrupt() {
  ring(*wake_);
}

void HttpEngine::PlainTransport::run() {
  epoll_event events[128];
  while (!stopping()) {
    start_ready();
    const auto now = Clock::now();
    before_wait(now);
    const int n = ::epoll_wait(epoll_.get(), events, 128, wait_ms(now));
    after_wait(Clock::now());
    for (int i = 0; i < n; ++i) {
      if (events[i].data.ptr == nullptr) {
        uint64_t count;
        (void)!::read(wake_->get(), &count, sizeof count);
        begin_unresolved();
      } else {
        on_event(*static_cast<Connection*>(events[i].data.ptr), events[i].events);
      }
    }
    conclude_hashed(n <= 0);
    sweep(Clock::now());
    dead_.clear();
  }
  abandon_all();
}

int HttpEngine::PlainTransport::wait_ms(Clock::time_point now) const {
  const bool all_idle = connections_.empty() && unresolved_.empty();
  std::chrono::milliseconds most = all_idle ? std::chrono::milliseconds(1000) : kSweepEvery;
  if (!unhashed_.empty()) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(unhashed_.due() - now);
    most = std::clamp(left, std::chrono::milliseconds(0), most);
  }
  return static_cast<int>(may_wait(now, most).count());
}

// ---- starting -----------------------------------------------------------------------------------

void HttpEngine::PlainTransport::start_ready() {
  Job job;
  while (!stopping() && next_job(true, job))
    start(std::move(job));
}

void HttpEngine::PlainTransport::start(Job job) {
  auto request = job.exchange->prepare();
  if (!request.ok()) {
    engine_.release(job, Concurrency::Outcome::kOther, {});
    if (request.error().code == EAGAIN) return wait_with(std::move(job), kCredentialsWait);
    return job.exchange->abandoned(request.error());
  }
  auto t = std::make_unique<Transfer>();
  t->job = std::move(job);
  t->wire = wire_request(*request);
  t->started = t->last_activity = Clock::now();
  t->stall = {std::chrono::milliseconds(engine_.options_.stall_timeout_ms), request->least_rate, t->started};
  begin(std::move(t));
}

void HttpEngine::PlainTransport::begin(TransferPtr t) {
  auto& idle = idle_[t->wire.authority];
  if (!idle.empty() && !t->again_told) {
    Connection& c = *idle.back();
    idle.pop_back();
    c.transfer = std::move(t);
    return send_request(c);
  }
  const auto [host, port] = split_authority(t->wire.authority);
  auto addresses = resolver_.lookup(host, port);
  if (!addresses) return unresolved_.push_back(std::move(t));
  if (!addresses->ok()) return fail(std::move(t), Transport::kConnect, addresses->error().message);
  std::vector<NetAddress> all = std::move(**addresses);
  // Each connection begins with another address: a store's name has many, to spread the load. Two are IPv4 and IPv6.
  if (all.size() > 2) std::rotate(all.begin(), all.begin() + static_cast<ptrdiff_t>(turn_++ % all.size()), all.end());
  connect(std::move(t), std::move(all));
}

void HttpEngine::PlainTransport::begin_unresolved() {
  for (auto& t : std::exchange(unresolved_, {}))
    begin(std::move(t));
}

void HttpEngine::PlainTransport::connect(TransferPtr t, std::vector<NetAddress> addresses) {
  int error = EHOSTUNREACH;
  while (!addresses.empty()) {
    const NetAddress address = addresses.front();
    addresses.erase(addresses.begin());
    Fd fd(::socket(address.data.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd.valid()) return fail(std::move(t), Transport::kConnect, std::string("no socket: ") + strerror(errno));
    const int one = 1;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    ::setsockopt(fd.get(), SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address.data), address.size) != 0 &&
        errno != EINPROGRESS) {
      error = errno;
      continue;
    }
    auto c = std::make_unique<Connection>();
    c->fd = std::move(fd);
    c->authority = t->wire.authority;
    c->others = std::move(addresses);
    c->transfer = std::move(t);
    c->since = Clock::now();
    Connection& placed = *c;
    connections_.emplace(&placed, std::move(c));
    return watch(placed, EPOLLOUT, EPOLL_CTL_ADD);
  }
  fail(std::move(t), Transport::kConnect, strerror(error));
}

void HttpEngine::PlainTransport::watch(Connection& c, uint32_t events, int operation) {
  epoll_event e{};
  e.events = events;
  e.data.ptr = &c;
  ::epoll_ctl(epoll_.get(), operation, c.fd.get(), &e);
}

// ---- events -------------------------------------------------------------------------------------

void HttpEngine::PlainTransport::on_event(Connection& c, uint32_t events) {
  if (!c.fd.valid()) return;  // dropped earlier in this turn
  if (c.connecting) return on_connected(c);
  if (!c.transfer) return drop(c);  // the store closed an idle connection, or speaks unasked
  if (events & EPOLLOUT) {
    watch(c, EPOLLIN, EPOLL_CTL_MOD);
    return send_request(c);
  }
  receive(c);
}

void HttpEngine::PlainTransport::on_connected(Connection& c) {
  int error = 0;
  socklen_t size = sizeof error;
  if (::getsockopt(c.fd.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  if (error != 0) {
    TransferPtr t = std::move(c.transfer);
    std::vector<NetAddress> others = std::move(c.others);
    drop(c);
    if (!others.empty()) return connect(std::move(t), std::move(others));
    return fail(std::move(t), Transport::kConnect, strerror(error));
  }
  c.connecting = false;
  c.transfer->stall.restart(Clock::now());
  watch(c, EPOLLIN, EPOLL_CTL_MOD);
  send_request(c);
}

void HttpEngine::PlainTransport::send_request(Connection& c) {
  Transfer& t = *c.transfer;
  while (t.sent < t.wire.text.size()) {
    const ssize_t n = ::send(c.fd.get(), t.wire.text.data() + t.sent, t.wire.text.size() - t.sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
    if (n < 0) return lost(c, errno);
    t.sent += static_cast<size_t>(n);
  }
}

void HttpEngine::PlainTransport::receive(Connection& c) {
  Transfer& t = *c.transfer;
  t.last_activity = Clock::now();
  if (!t.reader.head_done() && !receive_head(c)) return;
  for (size_t budget = kReadAtOnce; c.transfer && budget > 0;) {
    const uint64_t before = t.reader.plain_left();
    if (!receive_body(c)) return;
    if (!c.transfer) return;
    budget -= std::min<size_t>(budget, std::max<uint64_t>(before - t.reader.plain_left(), 1));
  }
}

// False: there is nothing more to read now, or the attempt is over.
bool HttpEngine::PlainTransport::receive_head(Connection& c) {
  Transfer& t = *c.transfer;
  while (!t.reader.head_done()) {
    const ssize_t n = ::recv(c.fd.get(), scratch_.data(), t.job.exchange->keeps_body() ? kHeadRead : kScratch, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return false;
    if (n <= 0) return lost(c, n < 0 ? errno : 0), false;
    t.any_byte = true;
    t.stall.came(static_cast<uint64_t>(n), t.last_activity);
    const std::string_view bytes(scratch_.data(), static_cast<size_t>(n));
    auto used = t.reader.take_head(bytes, t.reply);
    if (!used.ok()) {
      TransferPtr bad = std::move(c.transfer);
      drop(c);
      return fail(std::move(bad), Transport::kBroken, used.error().message), false;
    }
    if (!t.reader.head_done()) continue;
    t.first_byte = std::chrono::duration_cast<std::chrono::microseconds>(t.last_activity - t.started);
    t.stall.restart(t.last_activity);
    if (t.reply.success() && !t.job.exchange->on_head(t.reply).ok()) return stopped(c), false;
    const auto rest = std::as_bytes(std::span(bytes.substr(*used)));
    return tell_body(c, rest, rest.empty());
  }
  return true;
}

bool HttpEngine::PlainTransport::receive_body(Connection& c) {
  Transfer& t = *c.transfer;
  std::span<std::byte> room =
      t.reply.success() && t.reader.plain_left() > 0 ? t.job.exchange->body_room() : std::span<std::byte>();
  const bool placed = !room.empty();
  if (!placed) room = std::as_writable_bytes(std::span(scratch_));
  if (placed && room.size() > t.reader.plain_left()) room = room.first(static_cast<size_t>(t.reader.plain_left()));
  const ssize_t n = ::recv(c.fd.get(), room.data(), std::min(room.size(), kReadAtOnce), 0);
  if (n < 0 && errno == EINTR) return true;
  if (n < 0 && errno == EAGAIN) return false;
  if (n <= 0) return lost(c, n < 0 ? errno : 0), false;
  const size_t bytes = static_cast<size_t>(n);
  t.stall.came(bytes, t.last_activity);
  if (!placed) return tell_body(c, room.first(bytes), bytes == room.size());
  t.reader.took(bytes);
  if (!t.job.exchange->on_placed(bytes).ok()) return stopped(c), false;
  if (t.reader.complete()) return complete(c), false;
  return bytes == room.size();
}

Status HttpEngine::PlainTransport::take(Transfer& t, std::span<const std::byte> bytes) {
  if (t.reply.success()) return t.job.exchange->on_body(bytes);
  const size_t room = kMaxErrorBody - std::min(kMaxErrorBody, t.reply.body.size());
  t.reply.body.append(reinterpret_cast<const char*>(bytes.data()), std::min(room, bytes.size()));
  return {};
}

// `more`: it may be worth to read again at once.
bool HttpEngine::PlainTransport::tell_body(Connection& c, std::span<const std::byte> bytes, bool more) {
  Transfer& t = *c.transfer;
  bool refused = false;
  auto used = t.reader.take_body(bytes, [&](std::span<const std::byte> data) {
    Status status = take(t, data);
    refused = !status.ok();
    return status;
  });
  if (refused) return stopped(c), false;
  if (!used.ok()) {
    TransferPtr bad = std::move(c.transfer);
    drop(c);
    return fail(std::move(bad), Transport::kBroken, used.error().message), false;
  }
  if (t.reader.complete()) {
    if (*used < bytes.size()) c.used = false, c.authority.clear();  // more than it announced: never used again
    return complete(c), false;
  }
  return more;
}

// ---- ends ---------------------------------------------------------------------------------------

// The connection broke. Before any byte of a reply on a kept connection the store had just closed it: once more, on a
// new one.
void HttpEngine::PlainTransport::lost(Connection& c, int error) {
  const bool kept = c.used;
  TransferPtr t = std::move(c.transfer);
  drop(c);
  if (kept && !t->any_byte && !t->again_told) {
    t->again_told = true;
    t->sent = 0;
    return begin(std::move(t));
  }
  if (error == 0 && t->reader.at_end()) return end(std::move(t));
  fail(std::move(t), Transport::kBroken, error != 0 ? strerror(error) : "the connection was closed too early");
}

// on_head or the receiver of the body does not want the rest.
void HttpEngine::PlainTransport::stopped(Connection& c) {
  TransferPtr t = std::move(c.transfer);
  drop(c);
  t->reply.transport = Transport::kStopped;
  end(std::move(t));
}

void HttpEngine::PlainTransport::complete(Connection& c) {
  TransferPtr t = std::move(c.transfer);
  if (t->reader.keeps_connection() && !c.authority.empty()) {
    c.used = true;
    c.since = Clock::now();
    idle_[c.authority].push_back(&c);
  } else {
    drop(c);
  }
  end(std::move(t));
}

void HttpEngine::PlainTransport::fail(TransferPtr t, Transport how, std::string why) {
  t->reply.transport = how;
  t->reply.transport_error = std::move(why);
  end(std::move(t));
}

// The slot is free from here on; a body whose MD5 is wanted waits for others like it.
void HttpEngine::PlainTransport::end(TransferPtr t) {
  engine_.release(t->job, outcome_of(t->reply), t->first_byte);
  const bool whole = t->reply.transport == Transport::kOk && t->reply.success();
  const auto body = whole ? t->job.exchange->md5_input() : std::span<const std::byte>();
  if (body.empty()) return conclude(std::move(t->job), t->reply);
  const Clock::duration took = t->last_activity - t->started;
  const Clock::duration wait =
      std::min<Clock::duration>(took / (t->job.demand ? kWaitOfDemand : kWaitOfFill), kMostWait);
  unhashed_.add(body, t->last_activity + wait, {std::move(t->job), std::move(t->reply)});
}

void HttpEngine::PlainTransport::conclude_hashed(bool idle) {
  for (auto& [finished, md5] : unhashed_.hash(Clock::now(), idle)) {
    finished.job.exchange->md5_is(md5);
    conclude(std::move(finished.job), finished.reply);
  }
}

// ---- timeouts -----------------------------------------------------------------------------------

void HttpEngine::PlainTransport::sweep(Clock::time_point now) {
  if (now - last_sweep_ < kSweepEvery) return;
  last_sweep_ = now;
  drop_unresolved(now);
  begin_unresolved();
  const auto slow = engine_.slow_after();
  std::vector<Connection*> all;
  for (auto& [c, owned] : connections_)
    all.push_back(c);
  for (Connection* c : all) {
    if (c->fd.valid()) sweep_one(*c, now, slow);
  }
}

void HttpEngine::PlainTransport::drop_unresolved(Clock::time_point now) {
  for (auto& t : std::exchange(unresolved_, {})) {
    const bool late = now - t->started > std::chrono::milliseconds(engine_.options_.connect_timeout_ms);
    if (late) {
      fail(std::move(t), Transport::kConnect, "the name was not resolved within connect_timeout_ms");
    } else {
      unresolved_.push_back(std::move(t));
    }
  }
}

void HttpEngine::PlainTransport::sweep_one(Connection& c, Clock::time_point now, std::chrono::milliseconds slow) {
  if (!c.transfer) {
    if (now - c.since > kKeepIdle) drop(c);
    return;
  }
  Transfer& t = *c.transfer;
  const char* why = nullptr;
  Transport how = Transport::kTimeout;
  if (t.job.exchange->unwanted()) {
    why = "nobody waits for it any more";
    how = Transport::kBroken;
  } else if (c.connecting && now - c.since > std::chrono::milliseconds(engine_.options_.connect_timeout_ms)) {
    why = "no connection within connect_timeout_ms";
  } else if (!c.connecting && t.stall.stalled(now)) {
    why = "no byte, or next to none, within stall_timeout_ms";
  }
  if (why == nullptr) {
    if (!t.slow_told && t.first_byte.count() == 0 && now - t.started > slow) {
      t.slow_told = true;
      t.job.exchange->on_slow();
    }
    return;
  }
  TransferPtr over = std::move(c.transfer);
  std::vector<NetAddress> others =
      how == Transport::kTimeout && c.connecting ? std::move(c.others) : std::vector<NetAddress>();
  drop(c);
  if (!others.empty()) {
    connect(std::move(over), std::move(others));
  } else {
    fail(std::move(over), how, why);
  }
}

void HttpEngine::PlainTransport::drop(Connection& c) {
  if (!c.fd.valid()) return;
  auto& idle = idle_[c.authority];
  std::erase(idle, &c);
  c.fd = Fd();  // closing takes it out of epoll
  auto it = connections_.find(&c);
  dead_.push_back(std::move(it->second));
  connections_.erase(it);
}

void HttpEngine::PlainTransport::abandon_all() {
  const Error error = make_error(EIO, "the store is being closed");
  std::vector<Job> jobs;
  for (auto& [c, owned] : connections_) {
    if (c->transfer) jobs.push_back(std::move(c->transfer->job));
  }
  for (auto& t : unresolved_)
    jobs.push_back(std::move(t->job));
  connections_.clear();
  unresolved_.clear();
  for (auto& job : jobs) {
    engine_.release(job, Concurrency::Outcome::kOther, {});
    job.exchange->abandoned(error);
  }
  for (auto& f : unhashed_.abandon())
    f.job.exchange->abandoned(error);
  abandon_waiting(error);
}

}  // namespace larder
