// A TCP proxy that holds back every request by some milliseconds, as a distant store does, and nothing else: replies
// pass at full speed. Two threads a connection, so that it costs as little of the two cores as it can.
//
//   delay_proxy TARGET_PORT MILLISECONDS      on loopback; prints its own port, runs until stdin closes
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

sockaddr_in loopback(int port) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(static_cast<uint16_t>(port));
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return a;
}

bool write_all(int fd, const char* data, ssize_t size) {
  while (size > 0) {
    ssize_t n = send(fd, data, static_cast<size_t>(size), MSG_NOSIGNAL);
    if (n <= 0) return false;
    data += n;
    size -= n;
  }
  return true;
}

// Copies one direction until it ends, then ends the other side's too.
void pump(int from, int to, std::chrono::milliseconds delay) {
  std::vector<char> buffer(256 * 1024);
  for (ssize_t n; (n = recv(from, buffer.data(), buffer.size(), 0)) > 0;) {
    if (delay.count() > 0) std::this_thread::sleep_for(delay);
    if (!write_all(to, buffer.data(), n)) break;
  }
  shutdown(to, SHUT_RDWR);
  shutdown(from, SHUT_RDWR);
}

void serve(int client, int port, std::chrono::milliseconds delay) {
  int one = 1;
  int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in a = loopback(port);
  if (connect(server, reinterpret_cast<sockaddr*>(&a), sizeof a) == 0) {
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    std::thread up([=] { pump(client, server, delay); });
    pump(server, client, std::chrono::milliseconds(0));
    up.join();
  }
  close(server);
  close(client);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return fprintf(stderr, "delay_proxy TARGET_PORT MILLISECONDS\n"), 2;
  int target = atoi(argv[1]);
  std::chrono::milliseconds delay(atoi(argv[2]));
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in a = loopback(0);
  socklen_t size = sizeof a;
  if (bind(listener, reinterpret_cast<sockaddr*>(&a), sizeof a) != 0 || listen(listener, 1024) != 0 ||
      getsockname(listener, reinterpret_cast<sockaddr*>(&a), &size) != 0)
    return perror("delay_proxy"), 1;
  printf("%d\n", ntohs(a.sin_port));
  fflush(stdout);
  std::thread([] {
    char c;
    while (read(0, &c, 1) > 0) {
    }
    _exit(0);
  }).detach();
  for (int client; (client = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;)
    std::thread(serve, client, target, delay).detach();
  return perror("accept"), 1;
}
