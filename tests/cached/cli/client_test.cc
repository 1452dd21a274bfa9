#include "cached/cli/client.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>

#include "cached/base/fd.h"
#include "cached/cli/commands.h"
#include "larder/wire.h"

namespace larder::cli {
namespace {

// A daemon that answers one connection with prepared packets and remembers the request.
class OneReply {
 public:
  OneReply() {
    std::string name = testing::TempDir() + "larder-client-XXXXXX";
    folder_ = mkdtemp(name.data());
    path = folder_ + "/s";
    listener_ = Fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un a{};
    a.sun_family = AF_UNIX;
    memcpy(a.sun_path, path.c_str(), path.size() + 1);
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&a), sizeof a), 0);
    EXPECT_EQ(listen(listener_.get(), 4), 0);
  }
  ~OneReply() {
    if (thread_.joinable()) thread_.join();
    std::filesystem::remove_all(folder_);
  }
  // Answers one connection with these packets, the next with `then`.
  void serve(std::vector<std::string> packets, std::vector<std::string> then = {}) {
    thread_ = std::thread([this, packets, then] {
      answer(packets);
      if (!then.empty()) answer(then);
    });
  }
  void join() { thread_.join(); }
  std::string path, request;

 private:
  void answer(const std::vector<std::string>& packets) {
    Fd c(accept(listener_.get(), nullptr, nullptr));
    request.resize(kMaxPacket);
    ssize_t n = recv(c.get(), request.data(), request.size(), 0);
    request.resize(n > 0 ? static_cast<size_t>(n) : 0);
    for (const std::string& p : packets)
      (void)send(c.get(), p.data(), p.size(), MSG_NOSIGNAL);
  }
  std::string folder_;
  Fd listener_;
  std::thread thread_;
};

std::string packet(const std::string& body, int status = 0, uint32_t flags = 0) {
  Reply r{};
  r.magic = kWireMagic;
  r.version = kWireVersion;
  r.op = Op::kAdmin;
  r.status = status;
  r.flags = flags;
  r.payload_len = static_cast<uint32_t>(body.size());
  return std::string(reinterpret_cast<char*>(&r), sizeof r) + body;
}

TEST(Client, SendsJsonAfterTheHeaderAndReadsTheLastReply) {
  OneReply daemon;
  daemon.serve({packet(R"({"progress":{"done":1,"total":2}})", 0, kReplyMore), packet(R"({"version":"1"})")});
  std::vector<uint64_t> seen;
  auto reply = Client(daemon.path).request({{"op", "warm"}, {"path", "/data"}}, [&](const Json& p) {
    seen.push_back(p["done"]);
  });
  daemon.join();
  ASSERT_TRUE(reply.ok()) << reply.error().message;
  EXPECT_EQ((*reply)["version"], "1");
  EXPECT_EQ(seen, std::vector<uint64_t>{1});
  ASSERT_GT(daemon.request.size(), sizeof(Request));
  Request head;
  memcpy(&head, daemon.request.data(), sizeof head);
  EXPECT_EQ(head.magic, kWireMagic);
  EXPECT_EQ(head.version, kWireVersion);
  EXPECT_EQ(head.op, Op::kAdmin);
  EXPECT_EQ(head.payload_len, daemon.request.size() - sizeof head);
  EXPECT_EQ(Json::parse(daemon.request.substr(sizeof head)), (Json{{"op", "warm"}, {"path", "/data"}}));
}

TEST(Client, AnErrorComesWithItsErrnoAndItsOwnLine) {
  OneReply daemon;
  daemon.serve({packet(R"({"error":"bucket 'x' does not exist"})", ENOENT)});
  auto reply = Client(daemon.path).request({{"op", "refresh"}});
  ASSERT_FALSE(reply.ok());
  EXPECT_EQ(reply.error().code, ENOENT);
  EXPECT_EQ(reply.error().message, "bucket 'x' does not exist");
}

TEST(Client, WhatIsNotAReplyIsRefused) {
  std::string wrong_magic = packet("{}"), wrong_length = packet("{}") + "x";
  wrong_magic[0] ^= 1;
  for (const std::string& bytes :
       {std::string("x"), wrong_magic, wrong_length, packet("{"), packet("[1]"), packet("\xff\xfe")}) {
    OneReply daemon;
    daemon.serve({bytes});
    auto reply = Client(daemon.path).request({{"op", "ping"}});
    ASSERT_FALSE(reply.ok());
    EXPECT_EQ(reply.error().code, EPROTO);
    EXPECT_NE(reply.error().message.find(daemon.path), std::string::npos) << reply.error().message;
  }
}

TEST(Client, AnotherProtocolVersionIsNamed) {
  OneReply daemon;
  std::string bytes = packet("", EPROTO);
  bytes[4] = 9;
  daemon.serve({bytes});
  auto reply = Client(daemon.path).request({{"op", "ping"}});
  ASSERT_FALSE(reply.ok());
  EXPECT_NE(reply.error().message.find("speaks protocol 9"), std::string::npos) << reply.error().message;
}

TEST(Client, ADaemonThatEndsInTheMiddleIsAnError) {
  OneReply daemon;
  daemon.serve({packet(R"({"progress":{"done":1}})", 0, kReplyMore)});
  auto reply = Client(daemon.path).request({{"op", "warm"}});
  ASSERT_FALSE(reply.ok());
  EXPECT_EQ(reply.error().code, ECONNRESET);
}

TEST(Client, NobodyThereIsNotAnError) {
  auto there = Client("/nowhere/larder.sock").answers();
  ASSERT_TRUE(there.ok());
  EXPECT_FALSE(*there);
  auto reply = Client("/nowhere/larder.sock").request({{"op", "status"}});
  EXPECT_EQ(reply.error().code, ECONNREFUSED);
  EXPECT_NE(reply.error().message.find("/nowhere/larder.sock"), std::string::npos);
}

TEST(Client, ABusyDaemonIsAskedAgain) {
  OneReply daemon;
  daemon.serve({packet(R"({"error":"busy"})", EAGAIN)}, {packet(R"({"files":3})")});
  auto reply = Client(daemon.path).request({{"op", "warm"}});
  ASSERT_TRUE(reply.ok()) << reply.error().message;
  EXPECT_EQ((*reply)["files"], 3);
}

TEST(Client, ARequestThatIsTooLongIsRefusedBeforeItIsSent) {
  OneReply daemon;
  daemon.serve({});
  auto reply = Client(daemon.path).request({{"op", "warm"}, {"path", std::string(kMaxPacket, 'x')}});
  EXPECT_EQ(reply.error().code, E2BIG);
}

}  // namespace
}  // namespace larder::cli
