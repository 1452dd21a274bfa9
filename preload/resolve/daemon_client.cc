#include "preload/resolve/daemon_client.h"

#include <errno.h>
#include <string.h>
#include <sys/un.h>

#include "preload/base/sys.h"

namespace larder {
namespace {

constexpr int kCandidates = 3;
constinit char sockets[kCandidates][sizeof(sockaddr_un::sun_path)] = {};
constinit int candidate_count = 0;
constinit std::atomic<bool> out_of_reach{false};
constinit bool given = false;

void add_candidate(const char* a, const char* b, const char* c) {
  char* out = sockets[candidate_count];
  size_t n = 0;
  for (const char* part : {a, b, c}) {
    size_t len = strlen(part);
    if (n + len >= sizeof(sockets[0])) return;  // a socket path of that length cannot exist
    memcpy(out + n, part, len);
    n += len;
  }
  out[n] = 0;
  ++candidate_count;
}

constexpr int64_t kConnectPatienceMs = 5000;  // while the backlog is full
constexpr int kBacklogPauseMs = 5;
constexpr int64_t kFilesPatienceMs = 2000;  // what is asked for is there

// A socket connected to the daemon, or -errno; -EAGAIN: its backlog is full.
int connect_daemon() {
  int last = -ENOENT;
  for (int i = 0; i < candidate_count; ++i) {
    sockaddr_un addr = {};
    addr.sun_family = AF_UNIX;
    memcpy(addr.sun_path, sockets[i], sizeof(addr.sun_path));
    sys::Fd fd(static_cast<int>(sys::call(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)));
    if (fd.get() < 0) return fd.get();
    const int r = static_cast<int>(sys::call(SYS_connect, fd.get(), sys::arg(&addr), sizeof(addr)));
    if (r == 0) return fd.release();
    if (r != -ENOENT && r != -ECONNREFUSED) return r;
    last = r;
  }
  return last;
}

int send_request(int fd, const Request& request, const char* payload) {
  iovec iov[2] = {{const_cast<Request*>(&request), sizeof(request)}, {const_cast<char*>(payload), request.payload_len}};
  msghdr msg = {};
  msg.msg_iov = iov;
  msg.msg_iovlen = request.payload_len ? 2 : 1;
  long r;
  do
    r = sys::call(SYS_sendmsg, fd, sys::arg(&msg), MSG_NOSIGNAL);
  while (r == -EINTR);
  return r < 0 ? static_cast<int>(-r) : 0;
}

// A descriptor that is readable while one of these signals is pending, or -errno.
int signal_descriptor(uint64_t signals) {
  return static_cast<int>(sys::call(SYS_signalfd4, -1, sys::arg(&signals), sizeof(signals), SOCK_CLOEXEC));
}

// Whether one of these signals is pending, where there can be no such descriptor.
bool is_pending(uint64_t signals) {
  uint64_t pending = 0;
  sys::call(SYS_rt_sigpending, sys::arg(&pending), sizeof(pending));
  return (pending & signals) != 0;
}

constexpr int64_t kQuickMs = 2;   // most replies come by then: no descriptor is made
constexpr int64_t kSliceMs = 20;  // between looks at pending signals, if there is none for them

// Waits until fd is readable: 0, ETIMEDOUT, or EINTR if one of the signals that are held back is pending.
int wait_for_reply(int fd, int64_t deadline_ms, uint64_t held_back) {
  sys::Fd signals;
  bool tried = false;
  for (;;) {
    const int64_t left = deadline_ms - sys::now_ms();
    if (left <= 0) return ETIMEDOUT;
    int64_t slice = !tried ? kQuickMs : signals.get() >= 0 ? left : kSliceMs;
    if (slice > left) slice = left;
    struct pollfd polled[2] = {{fd, POLLIN, 0}, {signals.get(), POLLIN, 0}};
    struct timespec t = {slice / 1000, (slice % 1000) * 1000000};
    const long r = sys::call(SYS_ppoll, sys::arg(polled), 2, sys::arg(&t), 0, 8);
    if (r < 0 && r != -EINTR) return static_cast<int>(-r);
    if (polled[0].revents != 0) return 0;
    if (polled[1].revents != 0 || (signals.get() < 0 && is_pending(held_back))) return EINTR;
    if (!tried && held_back != 0) signals.reset(signal_descriptor(held_back));
    tried = true;
  }
}

// The reply is there.
int receive_reply(int fd, Reply* reply, int* fds, int max_fds, int* fd_count) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxHelloFds)];
  iovec iov = {reply, sizeof(*reply)};
  msghdr msg = {};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  msg.msg_control = control;
  msg.msg_controllen = sizeof(control);
  long n;
  do
    n = sys::call(SYS_recvmsg, fd, sys::arg(&msg), MSG_CMSG_CLOEXEC);
  while (n == -EINTR);
  *fd_count = 0;
  if (n < 0) return static_cast<int>(-n);
  for (cmsghdr* c = CMSG_FIRSTHDR(&msg); c != nullptr; c = CMSG_NXTHDR(&msg, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    int count = static_cast<int>((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    for (int i = 0; i < count; ++i) {
      int received;
      memcpy(&received, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
      if (*fd_count < max_fds)
        fds[(*fd_count)++] = received;
      else
        sys::close(received);
    }
  }
  int problem = 0;
  if (n == 0)
    problem = ECONNRESET;  // the daemon ended
  else if (n != sizeof(*reply) || reply->magic != kWireMagic)
    problem = EPROTO;
  else if (msg.msg_flags & MSG_CTRUNC)
    problem = EMFILE;
  else if (reply->status == 0 && static_cast<uint32_t>(*fd_count) != reply->fd_count)
    problem = EMFILE;
  if (problem != 0 || reply->status != 0) {
    for (int i = 0; i < *fd_count; ++i)
      sys::close(fds[i]);
    *fd_count = 0;
  }
  return problem;
}

// open(2) promises the lowest free number; the connection took it while the reply arrived.
int lowest_number(int fd, bool cloexec) {
  int better = sys::fcntl(fd, cloexec ? F_DUPFD_CLOEXEC : F_DUPFD, 0);
  if (better >= 0 && better < fd) {
    sys::close(fd);
    return better;
  }
  if (better >= 0) sys::close(better);
  if (!cloexec) sys::fcntl(fd, F_SETFD, 0);
  return fd;
}

}  // namespace

void configure_socket(const char* larder_socket, const char* runtime_dir) {
  candidate_count = 0;
  given = larder_socket != nullptr && larder_socket[0] != 0;
  if (given) {
    add_candidate(larder_socket, "", "");
    return;
  }
  add_candidate(kDefaultSocket, "", "");
  if (runtime_dir != nullptr && runtime_dir[0] == '/') add_candidate(runtime_dir, "/larder/larder.sock", "");
  char digits[12];
  size_t at = sizeof(digits) - 1;
  digits[at] = 0;
  unsigned uid = sys::getuid();
  do
    digits[--at] = static_cast<char>('0' + uid % 10);
  while ((uid /= 10) != 0);
  char folder[32] = "/tmp/larder-";
  memcpy(folder + 12, digits + at, sizeof(digits) - at);
  struct stat st;  // anybody can make a folder of that name: only the user's own counts
  if (sys::fstatat(AT_FDCWD, folder, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_uid == sys::getuid() &&
      S_ISDIR(st.st_mode) && (st.st_mode & 022) == 0) {
    add_candidate(folder, "/larder.sock", "");
  }
}

int socket_candidates() {
  return candidate_count;
}

const char* socket_candidate(int i) {
  return sockets[i];
}

bool socket_is_given() {
  return given;
}

bool daemon_away(int error) {
  return error == ENOENT || error == ECONNREFUSED || error == ECONNRESET || error == EPIPE || error == EAGAIN;
}

constinit std::atomic<uint64_t> answered_instance{0};

namespace {

// When to give up a daemon that is away, and one that is there and silent. Each sign of life puts both off.
struct Deadline {
  int64_t away_ms, silent_ms;
  uint32_t wait_ms;
};

Deadline from_now(uint32_t wait_ms) {
  const int64_t now = sys::now_ms();
  return {now + wait_ms, now + (wait_ms < kLeastSilenceMs ? kLeastSilenceMs : wait_ms), wait_ms};
}

// The signals wait meanwhile: a handler may never return (siglongjmp), and would leave the connection behind. EINTR:
// one is pending, and the connection is closed again.
int exchange_once(const Request& request, const char* payload, Reply* reply, int* fds, int max_fds, int* fd_count,
                  Deadline* deadline) {
  *fd_count = 0;
  sys::SignalGuard signals;
  sys::Fd fd(connect_daemon());
  if (fd.get() < 0) return -fd.get();
  int error = send_request(fd.get(), request, payload);
  while (error == 0) {
    error = wait_for_reply(fd.get(), deadline->silent_ms, signals.held_back());
    if (error == 0) error = receive_reply(fd.get(), reply, fds, max_fds, fd_count);
    if (error == 0 && reply->instance != 0) answered_instance.store(reply->instance, std::memory_order_relaxed);
    if (error != 0 || !(reply->flags & kReplyMore)) break;
    *deadline = from_now(deadline->wait_ms);
  }
  return error;
}

int exchange(Request request, const char* payload, Reply* reply, int* fds, int max_fds, int* fd_count,
             Deadline* deadline) {
  const int64_t begun = sys::now_ms();
  for (;;) {
    const int error = exchange_once(request, payload, reply, fds, max_fds, fd_count, deadline);
    if (error != EINTR && error != EAGAIN) return error;
    const int64_t now = sys::now_ms();
    if (now >= deadline->silent_ms) return ETIMEDOUT;
    if (error == EINTR) {  // the handlers have run, and the same is asked again
      // A timer's signals may leave no connection the time for the first sign of life: it comes at once.
      if (request.accepts & kAcceptsSignsOfLife) request.accepts |= kAcceptsASignAtOnce;
      continue;
    }
    if (now - begun >= kConnectPatienceMs) return EAGAIN;
    sys::sleep_ms(kBacklogPauseMs);
  }
}

}  // namespace

void lose_daemon() {
  out_of_reach.store(true, std::memory_order_relaxed);
}

int exchange(const Request& request, const char* payload, Reply* reply, int* fds, int max_fds, int* fd_count,
             int64_t deadline_ms) {
  Deadline deadline = {deadline_ms, deadline_ms, 0};
  return exchange(request, payload, reply, fds, max_fds, fd_count, &deadline);
}

namespace {

Request header(Op op, uint64_t dataset_id, size_t payload_bytes) {
  Request request = {};
  request.magic = kWireMagic;
  request.version = kWireVersion;
  request.op = op;
  request.dataset_id = dataset_id;
  request.accepts = kAcceptsSignsOfLife;
  request.payload_len = static_cast<uint32_t>(payload_bytes);
  return request;
}

const char* bytes_of(const ChunkRequest& chunks) {
  return reinterpret_cast<const char*>(&chunks);
}

}  // namespace

int start_chunks(uint64_t dataset_id, const ChunkRequest& chunks) {
  sys::Fd fd(connect_daemon());
  if (fd.get() < 0) return fd.get();
  const int error = send_request(fd.get(), header(Op::kChunks, dataset_id, sizeof(chunks)), bytes_of(chunks));
  return error != 0 ? -error : fd.release();
}

void advise_chunks(uint64_t dataset_id, uint64_t handle_inode, uint32_t first, uint32_t count) {
  sys::Fd sent(start_chunks(dataset_id, {handle_inode, first, count, kChunksAdvise, 0}));
}

int finish_chunks(int socket, Reply* reply) {
  int fd, count;
  if (const int late = wait_for_reply(socket, sys::now_ms() + 1000, 0)) return late;
  const int error = receive_reply(socket, reply, &fd, 1, &count);
  if (error == 0 && count > 0) sys::close(fd);
  return error;
}

namespace {

// Tries `once` until the daemon answers, as long as `fallback` says; `once` returns an errno of the transport.
template <typename Once>
int persist(Fallback fallback, const Deadline& deadline, Once once) {
  for (int pause_ms = 10;;) {
    const int error = once();
    if (error == 0) return 0;
    if (!daemon_away(error)) return error == ETIMEDOUT ? -EIO : -error;
    const bool hopeless = fallback != Fallback::kWait || out_of_reach.load(std::memory_order_relaxed);
    if (hopeless || sys::now_ms() + pause_ms > deadline.away_ms) return -ENOTCONN;
    sys::sleep_ms(pause_ms);
    if (pause_ms < 200) pause_ms *= 2;
  }
}

}  // namespace

int ask_for_chunks(uint64_t dataset_id, const ChunkRequest& chunks, Fallback fallback, uint32_t wait_ms) {
  const Request request = header(Op::kChunks, dataset_id, sizeof(chunks));
  Deadline deadline = from_now(wait_ms);
  Reply reply;
  const int r = persist(fallback, deadline, [&] {
    int fd, count;
    const int error = exchange(request, bytes_of(chunks), &reply, &fd, 1, &count, &deadline);
    if (error == 0 && count > 0) sys::close(fd);
    return error;
  });
  return r != 0 ? r : -reply.status;
}

int ask_for_files(uint64_t dataset_id, uint64_t handle_inode, int fds[2]) {
  const ChunkRequest which = {handle_inode, 0, 0, kChunksFiles, 0};
  Reply reply;
  int count = 0;
  const int error = exchange(header(Op::kChunks, dataset_id, sizeof(which)), bytes_of(which), &reply, fds, 2, &count,
                             sys::now_ms() + kFilesPatienceMs);
  if (error != 0) return -error;
  if (reply.status == 0 && count == 2) return 0;
  for (int i = 0; i < count; ++i)
    sys::close(fds[i]);
  return reply.status != 0 ? -reply.status : -EPROTO;
}

int ask_for(Op op, uint64_t dataset_id, ObjectId oid, const char* path, size_t len, bool cloexec, Fallback fallback,
            uint32_t wait_ms) {
  if (len > kMaxPathBytes) return -ENAMETOOLONG;
  Request request = header(op, dataset_id, len);
  request.oid = oid;
  Deadline deadline = from_now(wait_ms);
  Reply reply;
  int fd = -1, count = 0;
  const auto once = [&] { return exchange(request, path, &reply, &fd, 1, &count, &deadline); };
  if (int r = persist(fallback, deadline, once)) return r;
  if (reply.status != 0) return -reply.status;
  return count == 1 ? lowest_number(fd, cloexec) : -EPROTO;
}

}  // namespace larder
