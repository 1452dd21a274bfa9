// Real redis-server processes on loopback for tests. Each ends with its object, or with the test program.
#pragma once
#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "cached/meta/redis/redis_connection.h"
#include "tests/cached/store/http/live_server.h"

namespace larder::testing {

inline Deadline in_ms(int ms) {
  return std::chrono::steady_clock::now() + std::chrono::milliseconds(ms);
}

inline uint16_t free_port() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  bind(fd, reinterpret_cast<sockaddr*>(&address), size);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  close(fd);
  // A Cluster's bus is 10,000 above.
  return ntohs(address.sin_port) > 55'000 ? static_cast<uint16_t>(ntohs(address.sin_port) - 20'000)
                                          : ntohs(address.sin_port);
}

inline bool have_redis() {
  return system("command -v redis-server >/dev/null") == 0;
}

class RedisServer {
 public:
  explicit RedisServer(std::vector<std::string> options = {}, uint16_t at = 0, bool plain = true)
      : port(at ? at : free_port()), options_(std::move(options)), plain_(plain) {
    start();
  }
  ~RedisServer() { kill_now(); }
  RedisServer(const RedisServer&) = delete;
  RedisServer& operator=(const RedisServer&) = delete;

  void start() {
    std::vector<std::string> words = {"redis-server"};
    if (plain_) {
      for (const char* w : {"--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no", "--port"})
        words.emplace_back(w);
      words.push_back(std::to_string(port));
      words.emplace_back("--dir");
      words.push_back(dir_.path());
    }
    words.insert(words.end(), options_.begin(), options_.end());
    std::vector<char*> argv;
    for (std::string& w : words)
      argv.push_back(w.data());
    argv.push_back(nullptr);
    const pid_t parent = getpid();
    const std::string log = dir_.path() + "/log";
    pid_ = fork();
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(1);
      const int out = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
      dup2(out, 1);
      dup2(out, 2);
      execvp(argv[0], argv.data());
      _exit(127);
    }
    wait_until_it_answers();
  }

  void kill_now() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  void pause() { kill(pid_, SIGSTOP); }
  void resume() { kill(pid_, SIGCONT); }

  RedisEndpoint endpoint() const { return {"127.0.0.1", port}; }
  std::string url(const std::string& rest = "/0") const { return "redis://127.0.0.1:" + std::to_string(port) + rest; }
  const std::string& dir() const { return dir_.path(); }

  // Connects to this server directly, not through the client under test.
  RedisReply command(const std::vector<std::string>& words, int db = 0, const std::string& password = "") const {
    auto connection = RedisConnection::connect(endpoint(), {"", password, db, {}}, in_ms(5000));
    EXPECT_TRUE(connection.ok()) << connection.error().message;
    if (!connection.ok()) return {};
    RedisCommand command(words[0]);
    for (size_t i = 1; i < words.size(); ++i)
      command.add(words[i]);
    auto reply = (*connection)->call(command, in_ms(20'000));
    EXPECT_TRUE(reply.ok()) << reply.error().message;
    return reply.ok() ? *reply : RedisReply{};
  }
  std::vector<std::string> keys(const std::string& pattern, int db = 0) const {
    std::vector<std::string> out;
    for (auto& item : command({"KEYS", pattern}, db).items)
      out.push_back(item.text);
    return out;
  }

  const uint16_t port;

 private:
  // Any answer is enough: the server may require a password, or TLS.
  void wait_until_it_answers() {
    for (int i = 0; i < 500; ++i) {
      const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_port = htons(port);
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      const bool there = ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
      close(fd);
      if (there) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    ADD_FAILURE() << "redis-server did not start: see " << dir_.path() << "/log";
  }

  const std::vector<std::string> options_;
  const bool plain_;
  TempDir dir_;
  pid_t pid_ = -1;
};

}  // namespace larder::testing
