#include "cached/meta/redis/redis_socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <hiredis.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "cached/base/text.h"
#include "cached/meta/redis/redis_tls.h"

namespace larder {
namespace {

timeval time_left(Deadline deadline) {
  const auto left =
      std::max(std::chrono::milliseconds(1),
               std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()));
  return {static_cast<time_t>(left.count() / 1000), static_cast<suseconds_t>(left.count() % 1000 * 1000)};
}

Error connect_error(const redisContext* context, int saved_errno) {
  if (context == nullptr) return make_error(ENOMEM, "out of memory");
  const std::string_view text = context->errstr;
  int code = EIO;
  for (int known : {ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, ECONNRESET, ENOENT, EACCES})
    if (text.find(strerror(known)) != std::string_view::npos || (context->err == REDIS_ERR_IO && saved_errno == known))
      code = known;
  if (code == ENOENT) code = ECONNREFUSED;  // no socket file: no server
  return make_error(code, fmt::format("cannot connect: {}", printable(text)));
}

}  // namespace

void RedisSocket::ContextFree::operator()(redisContext* context) const {
  redisFree(context);
}

RedisSocket::RedisSocket(std::unique_ptr<redisContext, ContextFree> context) : context_(std::move(context)) {}
RedisSocket::~RedisSocket() = default;

Result<std::unique_ptr<RedisSocket>> RedisSocket::connect(const RedisEndpoint& endpoint, const RedisTls& tls,
                                                          Deadline deadline) {
  const timeval patience = time_left(deadline);
  errno = 0;
  std::unique_ptr<redisContext, ContextFree> context(
      endpoint.is_unix() ? redisConnectUnixWithTimeout(endpoint.host.c_str(), patience)
                         : redisConnectWithTimeout(endpoint.host.c_str(), endpoint.port, patience));
  if (!context || context->err != 0) return connect_error(context.get(), errno);
  ::fcntl(context->fd, F_SETFD, FD_CLOEXEC);
  ::fcntl(context->fd, F_SETFL, ::fcntl(context->fd, F_GETFL) | O_NONBLOCK);
  if (!endpoint.is_unix()) redisEnableKeepAlive(context.get());
  std::unique_ptr<RedisSocket> socket(new RedisSocket(std::move(context)));
  if (!tls.on || endpoint.is_unix()) return socket;
  auto session = RedisTlsSession::start(*socket, endpoint.host, tls, deadline);
  if (!session) return session.error();
  socket->tls_ = std::move(*session);
  return socket;
}

Status RedisSocket::write(std::string_view bytes, Deadline deadline) {
  return tls_ ? tls_->write(bytes, deadline) : send_plain(bytes, deadline);
}

Result<size_t> RedisSocket::read(char* to, size_t capacity, Deadline deadline) {
  return tls_ ? tls_->read(to, capacity, deadline) : receive_plain(to, capacity, deadline);
}

Status RedisSocket::wait(short events, Deadline deadline) const {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    pollfd one{context_->fd, events, 0};
    const int ready = ::poll(&one, 1, static_cast<int>(std::clamp<int64_t>(left, 0, 1 << 30)));
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return make_error(errno, fmt::format("poll: {}", strerror(errno)));
    if (ready == 0) return make_error(ETIMEDOUT, "no answer in time");
  }
}

Status RedisSocket::send_plain(std::string_view bytes, Deadline deadline) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(context_->fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n > 0)
      bytes.remove_prefix(static_cast<size_t>(n));
    else if (n < 0 && errno == EAGAIN) {
      if (auto status = wait(POLLOUT, deadline); !status) return status;
    } else if (n < 0 && errno != EINTR)
      return make_error(errno, fmt::format("cannot send: {}", strerror(errno)));
  }
  return {};
}

Result<size_t> RedisSocket::receive_plain(char* to, size_t capacity, Deadline deadline) {
  while (true) {
    const ssize_t n = ::recv(context_->fd, to, capacity, 0);
    if (n > 0) return static_cast<size_t>(n);
    if (n == 0) return make_error(ECONNRESET, "the connection was closed");
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return make_error(errno, fmt::format("cannot receive: {}", strerror(errno)));
    if (auto status = wait(POLLIN, deadline); !status) return status.error();
  }
}

}  // namespace larder
