// A minimal client of the socket: one request, its replies, their descriptors.
#pragma once
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "cached/base/fd.h"
#include "larder/wire.h"

namespace larder::test {

struct Answer {
  Reply header{};
  std::string payload;
  std::vector<Fd> fds;
  bool closed = false;  // no reply came
};

inline Fd connect_to(const std::string& path) {
  Fd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path.c_str(), path.size());
  struct timeval patience = {60, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (::connect(fd.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof address) != 0) return Fd();
  return fd;
}

inline Answer receive(int fd) {
  Answer a;
  std::vector<char> buffer(kMaxPacket);
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * 64)];
  struct iovec part = {buffer.data(), buffer.size()};
  struct msghdr m = {};
  m.msg_iov = &part;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = sizeof control;
  ssize_t n = ::recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
  a.closed = n < static_cast<ssize_t>(sizeof(Reply));
  if (a.closed) return a;
  memcpy(&a.header, buffer.data(), sizeof(Reply));
  a.payload.assign(buffer.data() + sizeof(Reply), static_cast<size_t>(n) - sizeof(Reply));
  for (struct cmsghdr* c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
    size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int got;
      memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
      a.fds.emplace_back(got);
    }
  }
  EXPECT_EQ(a.header.fd_count, a.fds.size());
  EXPECT_EQ(a.header.payload_len, a.payload.size());
  return a;
}

inline void send_request(int fd, Op op, uint64_t dataset, ObjectId oid, const std::string& payload) {
  Request r = {kWireMagic, kWireVersion, op, dataset, oid, static_cast<uint32_t>(payload.size()), 0, 0, 0};
  std::string packet(reinterpret_cast<char*>(&r), sizeof r);
  packet += payload;
  EXPECT_EQ(::send(fd, packet.data(), packet.size(), MSG_NOSIGNAL), static_cast<ssize_t>(packet.size()));
}

inline Answer ask(const std::string& socket, Op op, uint64_t dataset = 0, ObjectId oid = {},
                  const std::string& payload = "") {
  Fd fd = connect_to(socket);
  if (!fd.valid()) {
    Answer a;
    a.closed = true;
    return a;
  }
  send_request(fd.get(), op, dataset, oid, payload);
  Answer a = receive(fd.get());
  while (!a.closed && (a.header.flags & kReplyMore))
    a = receive(fd.get());
  return a;
}

inline nlohmann::json admin(const std::string& socket, const nlohmann::json& request, int* status = nullptr) {
  Answer a = ask(socket, Op::kAdmin, 0, {}, request.dump());
  if (status) *status = a.closed ? -1 : a.header.status;
  return nlohmann::json::parse(a.payload, nullptr, false);
}

inline std::string content(const Fd& fd) {
  std::string body(1 << 22, 0);
  ssize_t n = ::pread(fd.get(), body.data(), body.size(), 0);
  body.resize(n < 0 ? 0 : static_cast<size_t>(n));
  return body;
}

}  // namespace larder::test
