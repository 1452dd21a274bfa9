// A bare HTTP/1.1 client: sends prepared requests over some kept connections and throws the bodies away. No
// cache can be faster.
//
//   http_get PORT CONNECTIONS FILE      FILE: requests as they go over the wire, each after its length in a line
//
// Prints one JSON line: {"ops": N, "ns": N per op, "seconds": N, "bytes": N}.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace {

[[noreturn]] void die(const std::string& what) {
  fprintf(stderr, "http_get: %s\n", what.c_str());
  exit(1);
}

std::vector<std::string> read_requests(const char* file) {
  std::ifstream in(file, std::ios::binary);
  std::vector<std::string> out;
  for (std::string line; std::getline(in, line);) {
    out.emplace_back(static_cast<size_t>(atoll(line.c_str())), '\0');
    in.read(out.back().data(), static_cast<std::streamsize>(out.back().size()));
  }
  if (out.empty()) die(std::string("no requests in ") + file);
  return out;
}

class Connection {
 public:
  explicit Connection(int port) : buffer_(256 * 1024) {
    fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_port = htons(static_cast<uint16_t>(port));
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd_, reinterpret_cast<sockaddr*>(&a), sizeof a) != 0) die("connect");
    int one = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  }
  ~Connection() { close(fd_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Bytes of the body.
  uint64_t get(const std::string& request) {
    if (send(fd_, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) die("send");
    std::string head;
    size_t end = std::string::npos;
    while ((end = head.find("\r\n\r\n")) == std::string::npos)
      head.append(buffer_.data(), receive());
    uint64_t length = content_length(head.substr(0, end + 4)), got = head.size() - end - 4;
    while (got < length)
      got += receive();
    return length;
  }

 private:
  size_t receive() {
    ssize_t n = recv(fd_, buffer_.data(), buffer_.size(), 0);
    if (n <= 0) die("connection lost");
    return static_cast<size_t>(n);
  }
  static uint64_t content_length(const std::string& head) {
    if (head.compare(9, 2, "20") != 0) die("status " + head.substr(0, head.find('\r')));
    for (size_t at = 0; (at = head.find("\r\n", at)) != std::string::npos; at += 2)
      if (strncasecmp(head.c_str() + at + 2, "content-length:", 15) == 0)
        return strtoull(head.c_str() + at + 17, nullptr, 10);
    die("no Content-Length");
  }
  int fd_;
  std::vector<char> buffer_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return fprintf(stderr, "http_get PORT CONNECTIONS FILE\n"), 2;
  int port = atoi(argv[1]), connections = atoi(argv[2]);
  std::vector<std::string> requests = read_requests(argv[3]);
  std::atomic<size_t> next{0};
  std::atomic<uint64_t> bytes{0};
  auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> threads;
  for (int i = 0; i < connections; ++i)
    threads.emplace_back([&] {
      Connection c(port);
      for (size_t n; (n = next++) < requests.size();)
        bytes += c.get(requests[n]);
    });
  for (std::thread& t : threads)
    t.join();
  double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  printf("{\"ops\": %zu, \"ns\": %.1f, \"seconds\": %.6f, \"bytes\": %llu}\n", requests.size(),
         seconds * 1e9 / static_cast<double>(requests.size()), seconds, static_cast<unsigned long long>(bytes.load()));
  return 0;
}
