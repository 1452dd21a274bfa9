#include "cached/server/server.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <random>
#include <thread>

#include "tests/cached/client.h"
#include "tests/cached/fakes.h"

namespace larder {
namespace {

using namespace test;
using ::testing::HasSubstr;

// A server whose handler is the test's, on a thread.
class ServerTest : public ::testing::Test {
 protected:
  void serve(Server::Handler handler) {
    server = must(Server::listen(path, true));
    thread = std::thread([this, handler] {
      EXPECT_TRUE(server->run(handler, [] { return Server::Stamp{42, 7}; }).ok());
    });
  }
  void TearDown() override {
    if (!server) return;
    server->stop();
    thread.join();
    server.reset();
    EXPECT_FALSE(std::filesystem::exists(path));
  }
  TempFolder t;
  std::string path = t / "s/larder.sock";
  std::unique_ptr<Server> server;
  std::thread thread;
};

TEST_F(ServerTest, ARepliesCarriesPayloadDescriptorsAndTheStamp) {
  std::shared_ptr<Fd> file = std::make_shared<Fd>(::open("/proc/self/cmdline", O_RDONLY));
  serve([&](IncomingRequest r) {
    EXPECT_EQ(r.peer.uid, ::geteuid());
    EXPECT_EQ(r.peer.pid, ::getpid());
    if (r.header.op == Op::kHello) return r.reply->descriptors({file, file, file}, 40);
    if (r.header.op == Op::kFetch) return r.reply->fresh_descriptor(file);
    r.reply->text(0, "one", true);
    r.reply->text(0, "two:" + r.payload);
    r.reply->text(0, "never");
  });
  Answer a = ask(path, Op::kHello);
  EXPECT_EQ(a.header.generation, 40u);
  EXPECT_EQ(a.header.instance, 7u);
  EXPECT_EQ(a.fds.size(), 3u);
  a = ask(path, Op::kFetch, 1, {}, "x");
  ASSERT_EQ(a.fds.size(), 1u);
  EXPECT_EQ(a.header.generation, 42u);
  char c;
  EXPECT_EQ(::read(a.fds[0].get(), &c, 1), 1);  // an offset of its own: the next one starts at 0 too
  EXPECT_EQ(::lseek(file->get(), 0, SEEK_CUR), 0);
  Fd fd = connect_to(path);
  send_request(fd.get(), Op::kAdmin, 0, {}, "hi");
  EXPECT_EQ(receive(fd.get()).payload, "one");
  EXPECT_EQ(receive(fd.get()).payload, "two:hi");
  EXPECT_TRUE(receive(fd.get()).closed);
}

TEST_F(ServerTest, GarbageIsAnsweredOrClosedAndHarmsNobody) {
  std::atomic<int> handled{0};
  serve([&](IncomingRequest r) { ++handled, r.reply->done(); });
  Request good = {kWireMagic, kWireVersion, Op::kHello, 0, {}, 0, 0, 0, 0};
  auto with = [&](auto change) {
    Request r = good;
    change(r);
    return std::string(reinterpret_cast<char*>(&r), sizeof r);
  };
  const std::pair<std::string, int> cases[] = {
      {"x", -1},
      {std::string(47, 'L'), -1},
      {with([](Request& r) { r.magic = 1; }), -1},
      {with([](Request& r) { r.version = 9; }), EPROTO},
      {with([](Request& r) { r.payload_len = 1; }), EINVAL},
      {with([](Request& r) { r.payload_len = 0xffffffff; }), EINVAL},
      {with([](Request& r) { r.flags = 1; }), EINVAL},
      {with([](Request&) {}) + "tail", EINVAL},
  };
  for (auto& [packet, status] : cases) {
    Fd fd = connect_to(path);
    ASSERT_EQ(::send(fd.get(), packet.data(), packet.size(), 0), static_cast<ssize_t>(packet.size()));
    Answer a = receive(fd.get());
    EXPECT_EQ(a.closed ? -1 : a.header.status, status);
    EXPECT_TRUE(a.closed || a.header.version == kWireVersion);
  }
  EXPECT_EQ(handled, 0);
  std::mt19937 random(1);
  for (int i = 0; i < 300; ++i) {
    std::string packet(random() % 3000 + 1, 0);
    for (char& c : packet)
      c = static_cast<char>(random());
    Fd fd = connect_to(path);
    (void)::send(fd.get(), packet.data(), packet.size(), MSG_NOSIGNAL);
  }
  EXPECT_EQ(ask(path, Op::kHello).header.status, 0);
}

TEST_F(ServerTest, ThousandsOfSilentClientsDoNotStandInTheWay) {
  serve([&](IncomingRequest r) { r.reply->done(); });
  std::vector<Fd> silent;
  for (int i = 0; i < 3000; ++i)
    silent.push_back(connect_to(path));
  auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(ask(path, Op::kHello).header.status, 0);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
  // They are closed at their deadline.
  EXPECT_TRUE(receive(silent[0].get()).closed);
}

TEST_F(ServerTest, WithoutDescriptorsClientsWaitInsteadOfFailing) {
  serve([&](IncomingRequest r) { r.reply->done(); });
  struct rlimit before, low;
  ::getrlimit(RLIMIT_NOFILE, &before);
  std::vector<Fd> mine;
  for (int i = 0; i < 64; ++i)
    mine.push_back(connect_to(path));
  ASSERT_TRUE(eventually([&] { return server->connections() == 64; }));
  Fd late(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  low = before;
  low.rlim_cur = static_cast<rlim_t>(late.get()) + 1;  // nothing more can be opened
  ::setrlimit(RLIMIT_NOFILE, &low);
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path.c_str(), path.size());
  ASSERT_EQ(::connect(late.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof address), 0);
  send_request(late.get(), Op::kHello, 0, {}, "");
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  mine.clear();
  Answer a = receive(late.get());
  ::setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_FALSE(a.closed);
}

TEST_F(ServerTest, WhoWaitsGetsSignsOfLifeIfItUnderstandsThem) {
  std::vector<std::shared_ptr<Replier>> kept;
  std::atomic<int> asked{0};
  serve([&](IncomingRequest r) { kept.push_back(r.reply), ++asked; });
  const auto begin = [&](Op op, uint32_t accepts) {
    Fd fd = connect_to(path);
    Request r = {kWireMagic, kWireVersion, op, 0, {}, 0, 0, accepts, 0};
    EXPECT_EQ(::send(fd.get(), &r, sizeof r, MSG_NOSIGNAL), static_cast<ssize_t>(sizeof r));
    return fd;
  };
  Fd older = begin(Op::kFetch, 0), newer = begin(Op::kFetch, kAcceptsSignsOfLife);
  for (int i = 0; i < 2; ++i) {
    Answer a = receive(newer.get());
    EXPECT_TRUE(a.header.flags == kReplyMore && a.header.status == 0 && a.payload.empty() && a.fds.empty());
    EXPECT_EQ(a.header.op, Op::kFetch);
  }
  ASSERT_TRUE(eventually([&] { return asked == 2; }));
  for (auto& reply : kept)
    reply->fail(ESTALE);
  EXPECT_EQ(receive(older.get()).header.status, ESTALE);  // the first that it gets
  Answer last = receive(newer.get());
  while (last.header.flags & kReplyMore)
    last = receive(newer.get());
  EXPECT_EQ(last.header.status, ESTALE);
}

TEST_F(ServerTest, WhoAsksIsToldWhenTheClientGoes) {
  std::atomic<int> gone{0};
  std::shared_ptr<Replier> kept;
  serve([&](IncomingRequest r) {
    r.reply->when_gone([&] { ++gone; });
    kept = r.reply;
  });
  {
    Fd fd = connect_to(path);
    send_request(fd.get(), Op::kHello, 0, {}, "");
    ASSERT_TRUE(eventually([&] { return server->last_request() > std::chrono::steady_clock::time_point(); }));
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_EQ(gone, 0);
  }
  EXPECT_TRUE(eventually([&] { return gone == 1; }));
  EXPECT_TRUE(kept->gone());
  kept->done();  // harmless
}

TEST_F(ServerTest, AClientThatDoesNotReadCostsNothingElse) {
  serve([&](IncomingRequest r) {
    if (r.payload != "flood") return r.reply->done();
    for (int i = 0; i < 1000; ++i)
      r.reply->text(0, std::string(100000, 'x'), true);
    r.reply->text(0, "end");
  });
  Fd fd = connect_to(path);
  send_request(fd.get(), Op::kAdmin, 0, {}, "flood");
  for (int i = 0; i < 10; ++i)
    EXPECT_EQ(ask(path, Op::kHello).header.status, 0);
  Answer a = receive(fd.get());
  while (!a.closed && (a.header.flags & kReplyMore))
    a = receive(fd.get());
  EXPECT_EQ(a.payload, "end");  // progress was dropped, the answer was not
}

TEST_F(ServerTest, TheSocketHasOneOwner) {
  serve([&](IncomingRequest r) { r.reply->done(); });
  auto second = Server::listen(path, true);
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(second.error().message, HasSubstr(fmt::format("pid {}", ::getpid())));
  EXPECT_EQ(ask(path, Op::kHello).header.status, 0);
  struct stat st;
  ::stat(path.c_str(), &st);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
}

TEST_F(ServerTest, AStaleSocketIsReplacedAndAFolderForAllIsRefused) {
  std::filesystem::create_directory(t / "s");
  ::chmod((t / "s").c_str(), 0700);
  {
    Fd fd(::socket(AF_UNIX, SOCK_SEQPACKET, 0));
    struct sockaddr_un a = {};
    a.sun_family = AF_UNIX;
    memcpy(a.sun_path, path.c_str(), path.size());
    ASSERT_EQ(::bind(fd.get(), reinterpret_cast<struct sockaddr*>(&a), sizeof a), 0);
  }
  serve([&](IncomingRequest r) { r.reply->done(); });
  EXPECT_EQ(ask(path, Op::kHello).header.status, 0);
  std::filesystem::create_directory(t / "open");
  ::chmod((t / "open").c_str(), 0777);
  EXPECT_EQ(Server::listen(t / "open/x.sock", true).error().code, EACCES);
}

}  // namespace
}  // namespace larder
