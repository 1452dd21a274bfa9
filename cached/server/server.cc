#include "cached/server/server.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>

#include "cached/base/files.h"
#include "cached/base/log.h"

namespace larder {

static constexpr uint64_t kListener = 1, kWake = 2, kSignals = 3;
static constexpr std::chrono::seconds kRequestTime{5};  // from connecting to the request: a program sends it at once
static constexpr std::chrono::seconds kReplyTime{10};   // that a client may leave a reply in its buffer
static constexpr size_t kMaxQueuedReplies = 16;         // progress replies that a client does not take are dropped
static constexpr int kBacklog = 4096;
static constexpr int kTickMs = 250;
static constexpr int kRetryMs = 5;

bool Peer::in_group(gid_t g) const {
  return gid == g || std::find(groups.begin(), groups.end(), g) != groups.end();
}

// ---- Replier ------------------------------------------------------------------------------------

void Replier::send(Packet packet) {
  packet.header.magic = kWireMagic;
  packet.header.version = kWireVersion;
  packet.header.op = op_;
  packet.header.payload_len = static_cast<uint32_t>(packet.payload.size());
  packet.header.fd_count = static_cast<uint32_t>(packet.fds.size() + (packet.reopen ? 1 : 0));
  std::lock_guard lock(mutex_);
  if (finished_ || gone_) return;
  if (!(packet.header.flags & kReplyMore)) {
    finished_ = true;
    when_gone_ = nullptr;
  }
  if (server_) server_->post(connection_, std::move(packet));
}

void Replier::done() {
  send({});
}

void Replier::fail(int status) {
  Packet p;
  p.header.status = status;
  send(std::move(p));
}

void Replier::text(int status, std::string payload, bool more) {
  Packet p;
  p.header.status = status;
  p.header.flags = more ? kReplyMore : 0;
  if (payload.size() + sizeof(Reply) > kMaxPacket) return fail(EMSGSIZE);
  p.payload = std::move(payload);
  send(std::move(p));
}

void Replier::descriptors(std::vector<std::shared_ptr<Fd>> fds, uint64_t generation) {
  Packet p;
  p.fds = std::move(fds);
  p.header.generation = generation;
  send(std::move(p));
}

void Replier::fresh_descriptor(std::shared_ptr<Fd> file) {
  Packet p;
  p.reopen = std::move(file);
  send(std::move(p));
}

void Replier::when_gone(std::function<void()> callback) {
  {
    std::lock_guard lock(mutex_);
    if (finished_) return;
    if (!gone_) {
      when_gone_ = std::move(callback);
      return;
    }
  }
  callback();
}

void Replier::set_gone() {
  std::function<void()> callback;
  {
    std::lock_guard lock(mutex_);
    gone_ = true;
    server_ = nullptr;
    callback = std::exchange(when_gone_, nullptr);
  }
  if (callback) callback();
}

// ---- listening ----------------------------------------------------------------------------------

static Status check_private_folder(const std::string& folder) {
  struct stat st;
  if (::lstat(folder.c_str(), &st) != 0) return os_error("cannot stat " + folder);
  if (!S_ISDIR(st.st_mode) || st.st_uid != ::geteuid() || (st.st_mode & 077) != 0)
    return make_error(EACCES,
                      folder + " is not a folder that only you can enter; remove it, or choose another with --socket");
  return {};
}

static Result<Fd> open_lock(const std::string& name) {
  Fd fd(::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return os_error("cannot make " + name + " (choose another place with --socket)");
  return fd;
}

// The socket's own lock, beside it: a stale socket may be removed by who holds it. It goes with its daemon, so who got
// it must look whether it is still the one that has the name.
Status Server::lock_socket(const std::string& path) {
  std::string name = path + ".lock";
  struct stat mine, named;
  do {
    Result<Fd> fd = open_lock(name);
    if (!fd) return fd.error();
    if (::flock(fd->get(), LOCK_EX | LOCK_NB) != 0) {
      Result<std::string> read = read_file(AT_FDCWD, name, 64);
      std::string pid = read ? *read : "";
      while (!pid.empty() && pid.back() == '\n')
        pid.pop_back();
      return make_error(
          EBUSY, fmt::format("socket {} is in use by larderd with pid {}; stop it, or choose another with --socket",
                             path, shown(pid)));
    }
    lock_ = std::move(*fd);
    if (::fstat(lock_.get(), &mine) != 0) return os_error("cannot stat " + name);
  } while (::stat(name.c_str(), &named) != 0 || named.st_ino != mine.st_ino || named.st_dev != mine.st_dev);
  lock_name_ = name;
  std::string pid = fmt::format("{}\n", ::getpid());
  if (::ftruncate(lock_.get(), 0) != 0) return os_error("cannot write " + name);
  return pwrite_all(lock_.get(), pid.data(), pid.size(), 0);
}

Status Server::bind_socket(const std::string& path, bool is_private) {
  std::string folder = path.substr(0, path.rfind('/'));
  if (!folder.empty())
    if (Status s = make_dirs(folder, is_private ? 0700 : 0755); !s) return s;
  if (is_private)
    if (Status s = check_private_folder(folder); !s) return s;
  if (Status s = lock_socket(path); !s) return s;
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return make_error(EINVAL, "socket path " + path + " is too long");
  memcpy(address.sun_path, path.c_str(), path.size());
  listener_ = Fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener_.valid()) return os_error("cannot make a socket");
  struct stat st;
  if (::lstat(path.c_str(), &st) == 0 && !S_ISSOCK(st.st_mode))
    return make_error(EEXIST, path + " is there and not a socket; choose another with --socket");
  ::unlink(path.c_str());
  // The mode is right before anyone can connect: programs connect after listen().
  if (::bind(listener_.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof address) != 0)
    return os_error("cannot bind socket " + path);
  path_ = path;
  if (::chmod(path.c_str(), is_private ? 0600 : 0666) != 0) return os_error("cannot set the mode of " + path);
  if (::listen(listener_.get(), kBacklog) != 0) return os_error("cannot listen on " + path);
  return {};
}

Status Server::watch(int fd, uint64_t id, uint32_t events) {
  struct epoll_event e = {};
  e.events = events;
  e.data.u64 = id;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &e) != 0) return os_error("cannot watch a descriptor");
  return {};
}

Result<std::unique_ptr<Server>> Server::listen(const std::string& path, bool is_private) {
  std::unique_ptr<Server> s(new Server());
  if (Status b = s->bind_socket(path, is_private); !b) return b.error();
  s->epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  s->wake_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  sigset_t set;
  sigemptyset(&set);
  for (int sig : {SIGTERM, SIGINT})
    sigaddset(&set, sig);
  s->signals_ = Fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!s->epoll_.valid() || !s->wake_.valid() || !s->signals_.valid()) return os_error("cannot start the server");
  if (Status w = s->watch(s->listener_.get(), kListener, EPOLLIN); !w) return w.error();
  if (Status w = s->watch(s->wake_.get(), kWake, EPOLLIN); !w) return w.error();
  if (Status w = s->watch(s->signals_.get(), kSignals, EPOLLIN); !w) return w.error();
  s->last_request_ = Clock::now().time_since_epoch().count();
  return s;
}

Server::~Server() {
  for (auto& [id, c] : connections_)
    if (c.reply) c.reply->set_gone();
  if (!path_.empty()) ::unlink(path_.c_str());
  if (!lock_name_.empty()) ::unlink(lock_name_.c_str());
}

std::chrono::steady_clock::time_point Server::last_request() const {
  return Clock::time_point(Clock::duration(last_request_.load()));
}

void Server::stop() {
  stop_ = true;
  uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof one);
}

void Server::post(uint64_t connection, Replier::Packet packet) {
  std::lock_guard lock(posted_mutex_);
  posted_.emplace_back(connection, std::move(packet));
  uint64_t one = 1;
  if (posted_.size() == 1) (void)!::write(wake_.get(), &one, sizeof one);
}

// ---- the loop -----------------------------------------------------------------------------------

Status Server::run(Handler handler, std::function<Stamp()> stamp) {
  handler_ = std::move(handler);
  stamp_ = std::move(stamp);
  Clock::time_point next_check = Clock::now();
  while (!stop_) {
    struct epoll_event events[128];
    int n = ::epoll_wait(epoll_.get(), events, 128, blocked_.empty() ? kTickMs : kRetryMs);
    if (n < 0 && errno != EINTR) return os_error("cannot wait for requests");
    for (int i = 0; i < n; ++i)
      on_event(events[i].data.u64, events[i].events);
    retry_blocked();
    if (Clock::now() < next_check) continue;
    check_deadlines();
    next_check = Clock::now() + std::chrono::milliseconds(kTickMs);
  }
  take_posted();  // the answer to who asked us to end
  return {};
}

void Server::on_event(uint64_t id, uint32_t events) {
  if (id == kListener) return accept_all();
  if (id == kWake) {
    uint64_t count;
    (void)!::read(wake_.get(), &count, sizeof count);
    return take_posted();
  }
  if (id == kSignals) {
    spdlog::info("asked to end");
    stop_ = true;
    return;
  }
  auto it = connections_.find(id);
  if (it == connections_.end()) return;
  Connection& c = it->second;
  if (!c.reply && (events & EPOLLIN)) return read_request(id, c);
  if (events & (EPOLLHUP | EPOLLERR)) return drop(id);
  if (events & EPOLLOUT) flush(id, c);
}

void Server::accept_all() {
  for (;;) {
    Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd.valid()) {
      add_connection(std::move(fd));
      continue;
    }
    if (errno == ECONNABORTED || errno == EINTR) continue;
    if (errno != EAGAIN) pause_accepting();  // EMFILE, ENFILE, ENOMEM: clients wait in the backlog
    return;
  }
}

void Server::pause_accepting() {
  spdlog::warn("cannot accept a connection: errno {}; {} are open", errno, connections_.size());
  accepting_ = false;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, listener_.get(), nullptr);
}

static bool read_peer(int fd, Peer* peer) {
  struct ucred cred;
  socklen_t len = sizeof cred;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0) return false;
  peer->pid = cred.pid;
  peer->uid = cred.uid;
  peer->gid = cred.gid;
  return true;
}

// Supplementary groups; read only where a group matters.
static void read_groups(int fd, Peer* peer) {
  socklen_t len = 0;
  ::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, nullptr, &len);
  if (len == 0) return;
  peer->groups.resize(len / sizeof(gid_t));
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, peer->groups.data(), &len) != 0) len = 0;
  peer->groups.resize(len / sizeof(gid_t));
}

void Server::add_connection(Fd fd) {
  uint64_t id = next_id_++;
  Connection c;
  if (!read_peer(fd.get(), &c.peer) || !watch(fd.get(), id, EPOLLIN)) return;
  c.fd = std::move(fd);
  c.deadline = Clock::now() + kRequestTime;
  connections_.emplace(id, std::move(c));
  open_ = connections_.size();
}

void Server::read_request(uint64_t id, Connection& c) {
  static thread_local std::vector<char> buffer(kMaxPacket + 1);
  ssize_t n = ::recv(c.fd.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) return drop(id);
  IncomingRequest r;
  size_t len = static_cast<size_t>(n);
  memcpy(&r.header, buffer.data(), std::min(len, sizeof r.header));
  c.reply = std::make_shared<Replier>(this, id, r.header.op);
  struct epoll_event e = {};
  e.data.u64 = id;  // only hang-ups from now on
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, c.fd.get(), &e);
  if (len < sizeof r.header || r.header.magic != kWireMagic) return drop(id);
  if (r.header.version != kWireVersion) return reject(id, c, EPROTO);
  if (len > kMaxPacket || r.header.payload_len != len - sizeof r.header || r.header.flags != 0)
    return reject(id, c, EINVAL);
  r.payload.assign(buffer.data() + sizeof r.header, len - sizeof r.header);
  read_groups(c.fd.get(), &c.peer);
  r.peer = c.peer;
  r.reply = c.reply;
  c.deadline = Clock::time_point::max();
  last_request_ = Clock::now().time_since_epoch().count();
  handler_(std::move(r));
}

void Server::reject(uint64_t, Connection& c, int status) {
  c.deadline = Clock::now() + kReplyTime;
  c.reply->fail(status);
}

void Server::take_posted() {
  std::vector<std::pair<uint64_t, Replier::Packet>> posted;
  {
    std::lock_guard lock(posted_mutex_);
    posted.swap(posted_);
  }
  for (auto& [id, packet] : posted) {
    auto it = connections_.find(id);
    if (it == connections_.end()) continue;
    Connection& c = it->second;
    bool last = !(packet.header.flags & kReplyMore);
    if (!last && c.out.size() >= kMaxQueuedReplies) continue;
    c.last_queued = c.last_queued || last;
    if (last) c.deadline = Clock::now() + kReplyTime;
    c.out.push_back(std::move(packet));
    if (c.out.size() == 1) flush(id, c);
  }
}

void Server::flush(uint64_t id, Connection& c) {
  while (!c.out.empty()) {
    Sent sent = send_packet(c, c.out.front());
    if (sent == Sent::kBroken) return drop(id);
    if (sent == Sent::kBlocked) {
      if (errno == EMFILE || errno == ENFILE || errno == ETOOMANYREFS || errno == ENOBUFS || errno == ENOMEM)
        return blocked_.push_back(id);
      struct epoll_event e = {};
      e.events = EPOLLOUT;
      e.data.u64 = id;
      ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, c.fd.get(), &e);
      c.wants_write = true;
      return;
    }
    c.out.pop_front();
    c.opened.reset();
  }
  if (c.last_queued) return drop(id);
  if (!c.wants_write) return;
  struct epoll_event e = {};
  e.data.u64 = id;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, c.fd.get(), &e);
  c.wants_write = false;
}

Server::Sent Server::send_packet(Connection& c, Replier::Packet& p) {
  if (p.reopen && !c.opened) {
    std::string self = fmt::format("/proc/self/fd/{}", p.reopen->get());
    c.opened = std::make_shared<Fd>(::open(self.c_str(), O_RDONLY | O_CLOEXEC));
    if (!c.opened->valid()) {
      bool later = errno == EMFILE || errno == ENFILE || errno == ENOMEM;
      c.opened.reset();
      if (later) return Sent::kBlocked;
      spdlog::error("cannot open a cache file again: errno {}; is /proc there?", errno);
      p.reopen.reset();
      p.header.status = EIO;
      p.header.fd_count = 0;
    }
  }
  int fds[kMaxHelloFds + 1];
  size_t count = 0;
  for (auto& fd : p.fds)
    fds[count++] = fd->get();
  if (c.opened) fds[count++] = c.opened->get();
  Stamp stamp = stamp_();
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
  if (::sendmsg(c.fd.get(), &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return Sent::kDone;
  bool later = errno == EAGAIN || errno == EINTR || errno == ETOOMANYREFS || errno == ENOBUFS || errno == ENOMEM;
  return later ? Sent::kBlocked : Sent::kBroken;
}

void Server::retry_blocked() {
  std::vector<uint64_t> todo;
  todo.swap(blocked_);
  for (uint64_t id : todo)
    if (auto it = connections_.find(id); it != connections_.end()) flush(id, it->second);
}

void Server::drop(uint64_t id) {
  auto it = connections_.find(id);
  if (it == connections_.end()) return;
  std::shared_ptr<Replier> reply = it->second.reply;
  connections_.erase(it);  // closing takes it out of epoll
  open_ = connections_.size();
  if (reply) reply->set_gone();
}

void Server::check_deadlines() {
  Clock::time_point now = Clock::now();
  std::vector<uint64_t> late;
  for (auto& [id, c] : connections_)
    if (c.deadline < now) late.push_back(id);
  for (uint64_t id : late)
    drop(id);
  if (accepting_) return;
  accepting_ = bool(watch(listener_.get(), kListener, EPOLLIN));
}

}  // namespace larder
