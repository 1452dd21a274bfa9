// A store that costs almost nothing, so that what a client pays for an object can be measured beside it: one epoll
// thread that lists COUNT objects below "p/" as S3 does (ListObjectsV2, 1,000 a page) and answers every other GET with
// the same SIZE bytes, or a range of them: 'x', beyond 2 GiB zeros, which take no memory. Signatures are not verified:
// correctness is tested elsewhere, against a real server.
//
//   object_server SIZE COUNT ETAG [MILLISECONDS [FOLDERS [RATE [CRC]]]]
//
// RATE: bytes a second over all connections, in turn; 0: no limit. CRC: the CRC-64/NVME of an object as S3 writes it,
// for requests that ask for it. On loopback; prints its port, runs until stdin closes.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

std::string head_of(const std::string& type, const std::string& etag, size_t length, const std::string& range = "",
                    const std::string& crc = "") {
  return (range.empty() ? "HTTP/1.1 200 OK\r\n"
                        : "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes " + range + "\r\n") +
         "Server: bench\r\nAccept-Ranges: bytes\r\nContent-Type: " + type + "\r\nETag: \"" + etag +
         "\"\r\nLast-Modified: Fri, 02 Jan 2026 03:04:05 GMT\r\nx-amz-request-id: 1\r\n" +
         (crc.empty() ? "" : "x-amz-checksum-crc64nvme: " + crc + "\r\nx-amz-checksum-type: FULL_OBJECT\r\n") +
         "Content-Length: " + std::to_string(length) + "\r\n\r\n";
}

std::vector<std::string> all_keys(size_t count, size_t folders) {
  std::vector<std::string> keys;
  for (size_t i = 0; i < count; ++i) {
    char key[64];
    if (folders > 0)
      snprintf(key, sizeof key, "p/n%08zu/f%08zu.JPEG", i * folders / count, i);
    else
      snprintf(key, sizeof key, "p/f%08zu.JPEG", i);
    keys.emplace_back(key);
  }
  return keys;
}

// The value of a parameter, decoded; empty if it is not there.
std::string parameter(const std::string& target, const std::string& name) {
  size_t at = target.find('?');
  while (at != std::string::npos && target.compare(at + 1, name.size() + 1, name + "=") != 0)
    at = target.find('&', at + 1);
  if (at == std::string::npos) return {};
  std::string out;
  for (size_t i = at + name.size() + 2; i < target.size() && target[i] != '&' && target[i] != ' '; ++i) {
    if (target[i] != '%')
      out += target[i];
    else
      out += static_cast<char>(strtol(target.substr(i + 1, 2).c_str(), nullptr, 16)), i += 2;
  }
  return out;
}

// One page. A token is the last key of the page before, or its last folder and a byte that is after all keys in it.
std::string listing(const std::vector<std::string>& keys, const std::string& target, size_t size,
                    const std::string& etag) {
  const std::string prefix = parameter(target, "prefix"), most = parameter(target, "max-keys");
  const bool split = !parameter(target, "delimiter").empty();
  const std::string after = std::max(parameter(target, "start-after"), parameter(target, "continuation-token"));
  auto at =
      std::max(std::lower_bound(keys.begin(), keys.end(), prefix), std::upper_bound(keys.begin(), keys.end(), after));
  std::string xml, last;
  size_t left = most.empty() ? 1000 : strtoull(most.c_str(), nullptr, 10);
  for (; at != keys.end() && at->starts_with(prefix) && left > 0; --left) {
    const size_t slash = split ? at->find('/', prefix.size()) : std::string::npos;
    if (slash == std::string::npos) {
      last = *at++;
      xml += "<Contents><Key>" + last + "</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>\"" + etag +
             "\"</ETag><Size>" + std::to_string(size) + "</Size></Contents>";
    } else {
      const std::string folder = at->substr(0, slash + 1);
      last = folder + "\x7f";
      at = std::lower_bound(at, keys.end(), last);
      xml += "<CommonPrefixes><Prefix>" + folder + "</Prefix></CommonPrefixes>";
    }
  }
  const bool more = at != keys.end() && at->starts_with(prefix);
  return "<?xml version=\"1.0\"?><ListBucketResult><Name>bench</Name><IsTruncated>" +
         std::string(more ? "true" : "false") + "</IsTruncated>" +
         (more ? "<NextContinuationToken>" + last + "</NextContinuationToken>" : "") + xml + "</ListBucketResult>";
}

const char* make_body(size_t size) {
  void* bytes = mmap(nullptr, size + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (bytes == MAP_FAILED) return perror("object_server"), exit(1), nullptr;
  if (size <= size_t{2} << 30) memset(bytes, 'x', size);
  return static_cast<const char*>(bytes);
}

struct Client {
  std::string in;
  std::string head, list;
  const char* body = nullptr;
  size_t length = 0;
  size_t sent = 0;
};

class Server {
 public:
  Server(size_t size, size_t count, const std::string& etag, std::chrono::milliseconds delay, size_t folders,
         double rate, const std::string& crc)
      : delay_(delay),
        rate_(rate),
        etag_(etag),
        keys_(all_keys(count, folders)),
        body_(make_body(size), size),
        body_head_(head_of("image/jpeg", etag, size)),
        summed_head_(head_of("image/jpeg", etag, size, "", crc)),
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
      send_paced();
    }
  }

 private:
  int wait_ms() const {
    if (!paced_.empty()) return 1;
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
    if (list) {
      c.list = listing(keys_, c.in.substr(0, c.in.find('\r')), body_.size(), etag_);
      c.head = head_of("application/xml", "0", c.list.size());
      c.body = c.list.data();
      c.length = c.list.size();
    } else {
      answer_get(c);
    }
    c.in.clear();
    c.sent = 0;
    if (delay_.count() == 0) return send_some(fd);
    due_.emplace_back(Clock::now() + delay_, fd);
  }
  void answer_get(Client& c) {
    size_t from = 0, to = body_.size() - 1;
    const char* range = strcasestr(c.in.c_str(), "\r\nrange: bytes=");
    if (range && sscanf(range + 15, "%zu-%zu", &from, &to) < 1) range = nullptr;
    to = std::min(to, body_.size() - 1);
    c.body = body_.data() + from;
    c.length = to + 1 - from;
    c.head = range                                             ? head_of("image/jpeg", etag_, c.length,
                                                                         std::to_string(from) + "-" + std::to_string(to) + "/" + std::to_string(body_.size()))
             : strcasestr(c.in.c_str(), "x-amz-checksum-mode") ? summed_head_
                                                               : body_head_;
    if (c.in.starts_with("HEAD ")) c.length = 0;
  }
  // Acts as a link of that rate: every connection with something to send gets 64 KiB in turn.
  void send_paced() {
    const Clock::time_point now = Clock::now();
    tokens_ = std::min(tokens_ + rate_ * std::chrono::duration<double>(now - refilled_).count(), rate_ / 100);
    refilled_ = now;
    while (!paced_.empty() && tokens_ >= kTurn) {
      const int fd = paced_.front();
      paced_.pop_front();
      if (clients_.contains(fd)) send_some(fd);
    }
  }
  void send_some(int fd) {
    Client& c = clients_[fd];
    size_t total = c.head.size() + c.length;
    while (c.sent < total) {
      size_t h = std::min(c.sent, c.head.size()), b = c.sent - h;
      iovec parts[2] = {{const_cast<char*>(c.head.data()) + h, c.head.size() - h},
                        {const_cast<char*>(c.body) + b, c.length - b}};
      if (rate_ > 0 && tokens_ < kTurn) return paced_.push_back(fd);
      if (rate_ > 0) parts[1].iov_len = std::min(parts[1].iov_len, kTurn);
      ssize_t n = writev(fd, parts, 2);
      if (n < 0 && errno == EAGAIN) return watch(fd, EPOLLOUT, EPOLL_CTL_MOD);
      if (n <= 0) return drop(fd);
      c.sent += static_cast<size_t>(n);
      if (rate_ == 0) continue;
      tokens_ -= static_cast<double>(n);
      if (c.sent < total) return paced_.push_back(fd);
    }
  }

  static constexpr size_t kTurn = 64 * 1024;

  const std::chrono::milliseconds delay_;
  const double rate_;
  double tokens_ = 0;
  Clock::time_point refilled_ = Clock::now();
  std::deque<int> paced_;
  const std::string etag_;
  const std::vector<std::string> keys_;
  const std::string_view body_;
  const std::string body_head_, summed_head_;
  const int epoll_;
  std::unordered_map<int, Client> clients_;
  std::deque<std::pair<Clock::time_point, int>> due_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return fprintf(stderr, "object_server SIZE COUNT ETAG [MILLISECONDS [FOLDERS [RATE [CRC]]]]\n"), 2;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof a;
  if (bind(listener, reinterpret_cast<sockaddr*>(&a), sizeof a) != 0 || listen(listener, 1024) != 0 ||
      getsockname(listener, reinterpret_cast<sockaddr*>(&a), &size) != 0)
    return perror("object_server"), 1;
  Server server(strtoull(argv[1], nullptr, 10), strtoull(argv[2], nullptr, 10), argv[3],
                std::chrono::milliseconds(argc > 4 ? atoi(argv[4]) : 0), argc > 5 ? strtoull(argv[5], nullptr, 10) : 20,
                argc > 6 ? atof(argv[6]) : 0, argc > 7 ? argv[7] : "");
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
