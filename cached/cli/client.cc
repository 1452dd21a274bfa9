#include "cached/cli/client.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "cached/base/fd.h"
#include "larder/wire.h"

namespace larder::cli {
namespace {

constexpr int kPromptSeconds =
    20;  // longest wait for an op that does no work; a daemon under load answers in milliseconds

constexpr int kBusySeconds = 60;  // how long it may have no worker for us

bool answers_at_once(const Json& request) {
  std::string op = request.value("op", "");
  return op == "ping" || op == "status" || op == "run";
}

Error broken(const std::string& socket, std::string_view what) {
  return make_error(EPROTO, fmt::format("the server at '{}' {}: is it larderd?", socket, what));
}

Result<Fd> connect_to(const std::string& socket_path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_path.size() >= sizeof address.sun_path)
    return make_error(ENAMETOOLONG, fmt::format("socket path '{}' is too long", socket_path));
  memcpy(address.sun_path, socket_path.c_str(), socket_path.size() + 1);
  Fd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return make_error(errno, fmt::format("cannot create a socket: {}", strerror(errno)));
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return fd;
  if (errno == ENOENT || errno == ECONNREFUSED)
    return make_error(ECONNREFUSED,
                      fmt::format("no larderd answers at '{}': start larderd, use `larder run --mount`, or set "
                                  "LARDER_SOCKET",
                                  socket_path));
  return make_error(errno, fmt::format("cannot reach larderd at '{}': {}", socket_path, strerror(errno)));
}

Request header(Op op, size_t payload) {
  Request head{};
  head.magic = kWireMagic;
  head.version = kWireVersion;
  head.op = op;
  head.payload_len = static_cast<uint32_t>(payload);
  return head;
}

Status send_with_descriptors(int fd, Request head, const std::vector<int>& fds) {
  iovec part = {&head, sizeof head};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 3)] = {};
  if (!fds.empty()) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    memcpy(CMSG_DATA(c), fds.data(), fds.size() * sizeof(int));
  }
  if (sendmsg(fd, &message, MSG_NOSIGNAL) >= 0) return {};
  return make_error(errno, fmt::format("cannot send to larderd: {}", strerror(errno)));
}

Status send_request(int fd, const std::string& text) {
  Request head = header(Op::kAdmin, text.size());
  if (sizeof head + text.size() > kMaxPacket)
    return make_error(E2BIG, fmt::format("the request has {} bytes, a packet at most {}: give fewer paths at a time",
                                         text.size(), kMaxPacket));
  iovec parts[2] = {{&head, sizeof head}, {const_cast<char*>(text.data()), text.size()}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  if (sendmsg(fd, &message, MSG_NOSIGNAL) >= 0) return {};
  return make_error(errno, fmt::format("cannot send to larderd: {}", strerror(errno)));
}

struct Packet {
  Reply head;
  Json body;
};

Result<Packet> parse_packet(const std::string& socket_path, std::string_view bytes) {
  Packet packet{};
  if (bytes.size() < sizeof(Reply)) return broken(socket_path, "sent a short reply");
  memcpy(&packet.head, bytes.data(), sizeof(Reply));
  std::string_view text = bytes.substr(sizeof(Reply));
  if (packet.head.magic != kWireMagic) return broken(socket_path, "does not speak Larder's protocol");
  if (packet.head.version != kWireVersion)
    return make_error(
        EPROTO, fmt::format("larderd at '{}' speaks protocol {} and this larder speaks {}: use the two of one release",
                            socket_path, packet.head.version, kWireVersion));
  if (packet.head.payload_len != text.size()) return broken(socket_path, "sent a reply of the wrong length");
  packet.body = Json::parse(text, nullptr, false);
  if (text.empty()) packet.body = Json::object();
  if (!packet.body.is_object()) return broken(socket_path, "sent a reply that is not a JSON object");
  return packet;
}

Result<Packet> receive_packet(int fd, const std::string& socket_path, std::vector<char>& buffer) {
  ssize_t n = 0;
  do
    n = recv(fd, buffer.data(), buffer.size(), MSG_TRUNC);
  while (n < 0 && errno == EINTR);
  if (n == 0)
    return make_error(ECONNRESET, fmt::format("larderd at '{}' ended before it answered: see its log", socket_path));
  if (n < 0 && errno == EAGAIN)
    return make_error(
        ETIMEDOUT, fmt::format("larderd at '{}' did not answer within {} s: see its log", socket_path, kPromptSeconds));
  if (n < 0)
    return make_error(errno, fmt::format("cannot read from larderd at '{}': {}", socket_path, strerror(errno)));
  if (static_cast<size_t>(n) > buffer.size()) return broken(socket_path, "sent a reply that is too long");
  return parse_packet(socket_path, {buffer.data(), static_cast<size_t>(n)});
}

Error daemon_error(const Packet& packet) {
  auto text = packet.body.find("error");
  int code = packet.head.status > 0 ? packet.head.status : EIO;
  if (text != packet.body.end() && text->is_string()) return make_error(code, text->get<std::string>());
  return make_error(code, strerror(code));
}

void limit_wait(int fd) {
  timeval limit{kPromptSeconds, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

}  // namespace

Result<Json> Client::request(const Json& request, const std::function<void(const Json&)>& progress) const {
  auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(kBusySeconds);
  for (auto pause = std::chrono::milliseconds(20);; pause = std::min(pause * 2, std::chrono::milliseconds(500))) {
    auto reply = request_once(request, progress);
    if (reply || reply.error().code != EAGAIN || std::chrono::steady_clock::now() > deadline) return reply;
    std::this_thread::sleep_for(pause);
  }
}

Result<Json> Client::request_once(const Json& request, const std::function<void(const Json&)>& progress) const {
  auto fd = connect_to(socket_);
  if (!fd) return fd.error();
  if (Status sent = send_request(fd->get(), request.dump(-1, ' ', false, Json::error_handler_t::replace)); !sent)
    return sent.error();
  if (answers_at_once(request)) limit_wait(fd->get());
  std::vector<char> buffer(kMaxPacket);
  for (;;) {
    auto packet = receive_packet(fd->get(), socket_, buffer);
    if (!packet) return packet.error();
    if (packet->head.status != 0) return daemon_error(*packet);
    if (!(packet->head.flags & kReplyMore)) return std::move(packet->body);
    auto state = packet->body.find("progress");
    if (progress && state != packet->body.end() && state->is_object()) progress(*state);
  }
}

Result<int> Client::ask_keeper(Op op, const std::vector<int>& fds) const {
  auto fd = connect_to(socket_);
  if (!fd) return fd.error();
  if (Status sent = send_with_descriptors(fd->get(), header(op, 0), fds); !sent) return sent.error();
  limit_wait(fd->get());
  std::vector<char> buffer(kMaxPacket);
  auto packet = receive_packet(fd->get(), socket_, buffer);
  return packet ? Result<int>(packet->head.status) : packet.error();
}

Result<bool> Client::answers() const {
  auto reply = request({{"op", "ping"}});
  if (reply) return true;
  if (reply.error().code == ECONNREFUSED) return false;
  return reply.error();
}

}  // namespace larder::cli
