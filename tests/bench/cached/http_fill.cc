// The least that an object costs that comes over HTTP into a file: one thread, epoll, and for each object larderd's
// system calls (recv, O_TMPFILE, pwrite, utimensat, linkat, close) and its checksum. It has no signature, no catalog,
// no accounting and no MD5: the difference to larderd is larderd's own work.
//
//   http_fill PORT CONNECTIONS COUNT FOLDER
//
// Leaves FOLDER empty. Prints one JSON line: {"ops": N, "ns": processor time an object}.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "cached/cache/body_hash.h"

namespace {

constexpr size_t kMost = 1 << 20;  // of a reply

[[noreturn]] void die(const char* what) {
  perror(what);
  exit(1);
}

double processor_ns() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

struct Connection {
  int fd = -1;
  std::vector<char> held;  // of a reply that is not whole
};

class Client {
 public:
  Client(int port, size_t connections, size_t count, const char* folder)
      : count_(count),
        folder_(open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)),
        epoll_(epoll_create1(EPOLL_CLOEXEC)),
        hot_(kMost),
        connections_(connections) {
    if (folder_ < 0) die(folder);
    for (Connection& c : connections_)
      connect_one(c, port);
  }

  void run() {
    while (done_ < count_) {
      epoll_event events[128];
      int n = epoll_wait(epoll_, events, 128, -1);
      for (int i = 0; i < n; ++i)
        receive(*static_cast<Connection*>(events[i].data.ptr));
    }
  }

  uint64_t last_sum() const { return hash_.value(); }
  void clean() const {
    for (size_t i = 0; i < count_; ++i)
      unlinkat(folder_, name_of(i).c_str(), 0);
  }

 private:
  static std::string name_of(size_t i) {
    char name[33];
    snprintf(name, sizeof name, "%032zx", i * 2654435761u);
    return name;
  }
  void connect_one(Connection& c, int port) {
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_port = htons(static_cast<uint16_t>(port));
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(c.fd, reinterpret_cast<sockaddr*>(&a), sizeof a) != 0) die("connect");
    int one = 1;
    setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    epoll_event e{};
    e.events = EPOLLIN;
    e.data.ptr = &c;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, c.fd, &e);
    ask(c);
  }
  void ask(Connection& c) {
    static const std::string kRequest = "GET /bench/p/x HTTP/1.1\r\nHost: x\r\n\r\n";
    if (asked_ == count_) return;
    ++asked_;
    if (send(c.fd, kRequest.data(), kRequest.size(), MSG_NOSIGNAL) < 0) die("send");
  }
  // All replies are received into the same memory, which stays in the processor's cache; what is not whole is put
  // aside.
  void receive(Connection& c) {
    size_t have = c.held.size();
    memcpy(hot_.data(), c.held.data(), have);
    c.held.clear();
    for (;;) {
      ssize_t n = recv(c.fd, hot_.data() + have, kMost - have, MSG_DONTWAIT);
      if (n < 0 && errno == EAGAIN) return c.held.assign(hot_.data(), hot_.data() + have);
      if (n <= 0) die("recv");
      have += static_cast<size_t>(n);
      const char* end = static_cast<const char*>(memmem(hot_.data(), have, "\r\n\r\n", 4));
      if (end == nullptr) continue;
      size_t head = static_cast<size_t>(end + 4 - hot_.data());
      const char* length = static_cast<const char*>(memmem(hot_.data(), head, "Content-Length:", 15));
      if (length == nullptr) die("no Content-Length");
      size_t body = strtoull(length + 15, nullptr, 10);
      if (have < head + body) continue;
      fill(hot_.data() + head, body);
      return ask(c);
    }
  }
  void fill(const char* body, size_t size) {
    int fd = openat(folder_, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0444);
    if (pwrite(fd, body, size, 0) != static_cast<ssize_t>(size)) die("pwrite");
    hash_.reset();
    hash_.update({reinterpret_cast<const std::byte*>(body), size});
    timespec times[2] = {{1'700'000'000, 0}, {1'700'000'000, 0}};
    futimens(fd, times);
    if (linkat(fd, "", folder_, name_of(done_++).c_str(), AT_EMPTY_PATH) != 0) die("linkat");
    close(fd);
  }

  const size_t count_;
  const int folder_, epoll_;
  std::vector<char> hot_;
  std::vector<Connection> connections_;
  size_t asked_ = 0, done_ = 0;
  larder::BodyHash hash_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return fprintf(stderr, "http_fill PORT CONNECTIONS COUNT FOLDER\n"), 2;
  size_t count = strtoull(argv[3], nullptr, 10);
  double start = processor_ns();
  Client client(atoi(argv[1]), strtoull(argv[2], nullptr, 10), count, argv[4]);
  client.run();
  printf("{\"ops\": %zu, \"ns\": %.1f, \"last_sum\": %llu}\n", count,
         (processor_ns() - start) / static_cast<double>(count), static_cast<unsigned long long>(client.last_sum()));
  client.clean();
  return 0;
}
