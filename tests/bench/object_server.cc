// A store that costs almost nothing, so that what a client pays for an object can be measured beside it: one epoll thread
// that lists COUNT objects below "p/" as S3 does (one page) and answers every other GET with the same SIZE bytes.
// Signatures are not looked at; what is right is measured elsewhere, against a real server.
//
//   object_server SIZE COUNT ETAG [MILLISECONDS]     on loopback; prints its port, runs until stdin closes
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>
#include <thread>
#include <unordered_map>

namespace {

using Clock = std::chrono::steady_clock;

std::string head_of(const std::string& type, const std::string& etag, size_t length) {
  return "HTTP/1.1 200 OK\r\nServer: bench\r\nAccept-Ranges: bytes\r\nContent-Type: " + type + "\r\nETag: \"" + etag +
         "\"\r\nLast-Modified: Fri, 02 Jan 2026 03:04:05 GMT\r\nx-amz-request-id: 1\r\nContent-Length: " +
         std::to_string(length) + "\r\n\r\n";
}

std::string listing(size_t size, size_t count, const std::string& etag) {
  std::string xml = "<?xml version=\"1.0\"?><ListBucketResult><Name>bench</Name><IsTruncated>false</IsTruncated>";
  for (size_t i = 0; i < count; ++i) {
    char key[64];
    snprintf(key, sizeof key, "p/n%08zu/f%08zu.JPEG", i * 20 / count, i);
    xml += std::string("<Contents><Key>") + key + "</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>\"" +
           etag + "\"</ETag><Size>" + std::to_string(size) + "</Size></Contents>";
  }
  return xml + "</ListBucketResult>";
}

struct Client {
  std::string in;
  const std::string* head = nullptr;
  const std::string* body = nullptr;
  size_t sent = 0;
};

class Server {
 public:
  Server(size_t size, size_t count, const std::string& etag, std::chrono::milliseconds delay)
      : delay_(delay),
        body_(size, 'x'),
        list_(listing(size, count, etag)),
        body_head_(head_of("image/jpeg", etag, size)),
        list_head_(head_of("application/xml", "0", list_.size())),
        epoll_(epoll_create1(EPOLL_CLOEXEC)) {}

  void run(int listener) {
    watch(listener, EPOLLIN, EPOLL_CTL_ADD);
    for (;;) {
      epoll_event events[256];
      int n = epoll_wait(epoll_, events, 256, wait_ms());
      for (int i = 0; i < n; ++i) {
        int fd = events[i].data.fd;
        if (fd == listener) {
          accept_one(listener);
        } else {
          on_event(fd, events[i].events);
        }
      }
      for (; !due_.empty() && due_.front().first <= Clock::now(); due_.pop_front()) {
        if (clients_.contains(due_.front().second)) send_some(due_.front().second);
      }
    }
  }

 private:
  int wait_ms() const {
    if (due_.empty()) return -1;
    auto left = std::chrono::ceil<std::chrono::milliseconds>(due_.front().first - Clock::now()).count();
    return left < 0 ? 0 : static_cast<int>(left);
  }
  void watch(int fd, uint32_t events, int op) {
    epoll_event e{};
    e.events = events;
    e.data.fd = fd;
    epoll_ctl(epoll_, op, fd, &e);
  }
  void accept_one(int listener) {
    int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK), one = 1, buffer = 1 << 20;
    if (fd < 0) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    clients_[fd];
    watch(fd, EPOLLIN, EPOLL_CTL_ADD);
  }
  void drop(int fd) {
    clients_.erase(fd);
    close(fd);
  }
  void on_event(int fd, uint32_t events) {
    if (events & EPOLLOUT) {
      watch(fd, EPOLLIN, EPOLL_CTL_MOD);
      return send_some(fd);
    }
    char buffer[8192];
    ssize_t n = recv(fd, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) return drop(fd);
    Client& c = clients_[fd];
    c.in.append(buffer, static_cast<size_t>(n));
    if (!c.in.ends_with("\r\n\r\n")) return;
    bool list = c.in.substr(0, c.in.find('\r')).find("list-type=2") != std::string::npos;
    c.head = list ? &list_head_ : &body_head_;
    c.body = list ? &list_ : &body_;
    c.in.clear();
    c.sent = 0;
    if (delay_.count() == 0) return send_some(fd);
    due_.emplace_back(Clock::now() + delay_, fd);
  }
  void send_some(int fd) {
    Client& c = clients_[fd];
    size_t total = c.head->size() + c.body->size();
    while (c.sent < total) {
      size_t h = std::min(c.sent, c.head->size()), b = c.sent - h;
      iovec parts[2] = {{const_cast<char*>(c.head->data()) + h, c.head->size() - h},
                        {const_cast<char*>(c.body->data()) + b, c.body->size() - b}};
      ssize_t n = writev(fd, parts, 2);
      if (n < 0 && errno == EAGAIN) return watch(fd, EPOLLOUT, EPOLL_CTL_MOD);
      if (n <= 0) return drop(fd);
      c.sent += static_cast<size_t>(n);
    }
  }

  const std::chrono::milliseconds delay_;
  const std::string body_, list_, body_head_, list_head_;
  const int epoll_;
  std::unordered_map<int, Client> clients_;
  std::deque<std::pair<Clock::time_point, int>> due_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return fprintf(stderr, "object_server SIZE COUNT ETAG [MILLISECONDS]\n"), 2;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof a;
  if (bind(listener, reinterpret_cast<sockaddr*>(&a), sizeof a) != 0 || listen(listener, 1024) != 0 ||
      getsockname(listener, reinterpret_cast<sockaddr*>(&a), &size) != 0)
    return perror("object_server"), 1;
  Server server(strtoull(argv[1], nullptr, 10), strtoull(argv[2], nullptr, 10), argv[3],
                std::chrono::milliseconds(argc > 4 ? atoi(argv[4]) : 0));
  printf("%d\n", ntohs(a.sin_port));
  fflush(stdout);
  std::thread([] {
    char c;
    while (read(0, &c, 1) > 0) {
    }
    _exit(0);
  }).detach();
  server.run(listener);
}
