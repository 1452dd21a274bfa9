#include "cached/home/descriptor_store.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace larder {
namespace {

constexpr int kFirst = 3;    // SD_LISTEN_FDS_START
constexpr int kMost = 1024;  // more were not passed by anybody who means us

// -1: not a number.
long number_of(const char* text) {
  long n = -1;
  const char* end = text ? text + strlen(text) : nullptr;
  return text && std::from_chars(text, end, n).ptr == end ? n : -1;
}

std::string next_name(std::string_view& names) {
  const size_t colon = std::min(names.find(':'), names.size());
  std::string name(names.substr(0, colon));
  names.remove_prefix(std::min(colon + 1, names.size()));
  return name;
}

union OneDescriptor {
  struct cmsghdr header;
  char bytes[CMSG_SPACE(sizeof(int))];
};

Status send(std::string_view text, const int* fd) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (!path) return make_error(ENOTCONN, "NOTIFY_SOCKET is not set");
  struct sockaddr_un address = {};
  const size_t length = strlen(path);
  if (length < 2 || length >= sizeof address.sun_path || (path[0] != '/' && path[0] != '@'))
    return make_error(EINVAL, fmt::format("NOTIFY_SOCKET is no address of a socket: {}", path));
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path, length);
  if (path[0] == '@') address.sun_path[0] = 0;
  Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return os_error("cannot make a socket");
  struct iovec part = {const_cast<char*>(text.data()), text.size()};
  struct msghdr message = {};
  message.msg_name = &address;
  message.msg_namelen = static_cast<socklen_t>(offsetof(struct sockaddr_un, sun_path) + length);
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  OneDescriptor control = {};
  if (fd) {
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    control.header = {CMSG_LEN(sizeof *fd), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), fd, sizeof *fd);
  }
  if (::sendmsg(socket.get(), &message, MSG_NOSIGNAL) < 0) return os_error(fmt::format("cannot send to {}", path));
  return {};
}

}  // namespace

StoredDescriptors StoredDescriptors::adopt() {
  StoredDescriptors stored;
  const long count = number_of(std::getenv("LISTEN_FDS"));
  const bool for_us = number_of(std::getenv("LISTEN_PID")) == ::getpid();
  const char* text = std::getenv("LISTEN_FDNAMES");
  std::string_view names = text ? text : "";
  for (int fd = kFirst; for_us && fd < kFirst + std::min<long>(count, kMost); ++fd) {
    std::string name = next_name(names);
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) == 0) stored.named_.emplace_back(std::move(name), Fd(fd));
  }
  for (const char* variable : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"})
    ::unsetenv(variable);
  return stored;
}

Fd StoredDescriptors::take(std::string_view name) {
  auto it = std::find_if(named_.begin(), named_.end(), [&](const auto& n) { return n.first == name; });
  if (it == named_.end()) return {};
  Fd fd = std::move(it->second);
  named_.erase(it);
  return fd;
}

Status notify(std::string_view text) {
  return std::getenv("NOTIFY_SOCKET") ? send(text, nullptr) : Status();
}

Status store(std::string_view name, int fd) {
  if (Status s = remove_stored(name); !s) return s;
  return send(fmt::format("FDSTORE=1\nFDNAME={}\nFDPOLL=0", name), &fd);
}

Status remove_stored(std::string_view name) {
  return send(fmt::format("FDSTOREREMOVE=1\nFDNAME={}", name), nullptr);
}

}  // namespace larder
