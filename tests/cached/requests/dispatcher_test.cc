#include "cached/requests/dispatcher.h"

#include <gmock/gmock.h>
#include <poll.h>

#include <algorithm>
#include <latch>
#include <optional>
#include <thread>

namespace larder {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

struct Answer {
  int status;
  bool last;
  json body;
};

class DispatcherTest : public ::testing::Test {
 protected:
  static constexpr uid_t kAdministrator = 4242;

  void SetUp() override {
    Result<std::unique_ptr<Outbox>> made = Outbox::make();
    ASSERT_TRUE(made.ok());
    outbox = std::move(*made);
  }
  void TearDown() override {
    if (dispatcher) dispatcher->stop();
  }
  void start(std::map<std::string, AdminCommand> commands) {
    commands["ping"] = {[](const AdminCall&) { return json{{"pong", true}}; }, false, Lane::kQuick};
    dispatcher = std::make_unique<Dispatcher>(std::move(commands), [this](const Peer& peer) {
      if (look_up) look_up->wait();
      return peer.uid == kAdministrator;
    });
  }
  void ask(uint64_t connection, const std::string& payload, uid_t uid = 1) {
    IncomingRequest r;
    r.payload = payload;
    r.peer.uid = uid;
    r.reply = std::make_shared<Replier>(outbox.get(), connection, Op::kAdmin);
    dispatcher->handle(std::move(r));
  }
  // The next reply to a connection.
  Answer next(uint64_t connection) {
    for (;;) {
      auto found = std::find_if(packets.begin(), packets.end(), [&](auto& p) { return p.first == connection; });
      if (found != packets.end()) {
        ReplyPacket p = std::move(found->second);
        packets.erase(found);
        return {p.header.status, p.is_last(), json::parse(p.payload, nullptr, false)};
      }
      struct pollfd readable = {outbox->event(), POLLIN, 0};
      if (::poll(&readable, 1, 60'000) != 1) {
        ADD_FAILURE() << "no reply";
        return {-1, true, {}};
      }
      for (auto& posted : outbox->take())
        packets.push_back(std::move(posted));
    }
  }
  Answer answer(const std::string& payload, uid_t uid = 1) {
    ask(1, payload, uid);
    return next(1);
  }

  std::unique_ptr<Outbox> outbox;
  Outbox::Posted packets;
  std::optional<std::latch> look_up;  // if it is there, looking a group up waits for it
  std::unique_ptr<Dispatcher> dispatcher;
};

AdminCommand privileged(AdminAnswer answer) {
  return {[answer](const AdminCall&) { return answer; }, true};
}

TEST_F(DispatcherTest, WhatIsNoRequestIsRefused) {
  start({});
  for (const char* bad : {"", "{", "[]", "7", "{}", R"({"op": 7})"}) {
    Answer a = answer(bad);
    EXPECT_EQ(a.status, EINVAL) << bad;
    EXPECT_THAT(a.body["error"], HasSubstr("op"));
  }
  Answer a = answer(R"({"op": "dance\n"})");
  EXPECT_EQ(a.status, ENOSYS);
  EXPECT_THAT(a.body["error"], HasSubstr("does not know"));
}

TEST_F(DispatcherTest, ACommandsResultOrErrorIsTheReply) {
  start({{"good", {[](const AdminCall&) {
            return json{{"name", "caf\xe9"}};
          }}},
         {"bad", {[](const AdminCall&) -> AdminAnswer { return make_error(ENOENT, "no such thing"); }}}});
  Answer a = answer(R"({"op": "good"})");
  EXPECT_EQ(a.status, 0);
  EXPECT_EQ(a.body, (json{{"name", "caf\xef\xbf\xbd"}}));  // bytes that are not UTF-8 are replaced
  a = answer(R"({"op": "bad"})");
  EXPECT_EQ(a.status, ENOENT);
  EXPECT_EQ(a.body, (json{{"error", "no such thing"}}));
}

TEST_F(DispatcherTest, PrivilegedCommandsAreForThoseWhoMayAdminister) {
  start({{"evict", privileged(json::object())}});
  EXPECT_EQ(answer(R"({"op": "evict"})", kAdministrator).status, 0);
  Answer a = answer(R"({"op": "evict"})");
  EXPECT_EQ(a.status, EPERM);
  EXPECT_EQ(a.body["error"], "evict requires root, the daemon's user or a member of admin_group");
}

// A group may be looked up over the network (LDAP): the server's thread and short questions do not wait for it.
TEST_F(DispatcherTest, ASlowLookUpOfAGroupHoldsUpNobodyElse) {
  look_up.emplace(1);
  start({{"evict", privileged(json::object())}});
  ask(1, R"({"op": "evict"})");
  ask(2, R"({"op": "evict"})", kAdministrator);
  ask(3, R"({"op": "ping"})");
  EXPECT_EQ(next(3).status, 0);
  EXPECT_TRUE(packets.empty());
  look_up->count_down();
  EXPECT_EQ(next(1).status, EPERM);
  EXPECT_EQ(next(2).status, 0);
}

TEST_F(DispatcherTest, LongCommandsDoNotDelayShortQuestions) {
  std::latch go(1);
  start({{"warm", {[&](const AdminCall&) {
            go.wait();
            return json::object();
          }}}});
  constexpr uint64_t kLong = 8;
  for (uint64_t id = 1; id <= kLong; ++id)
    ask(id, R"({"op": "warm"})");
  ask(101, R"({"op": "ping"})");
  EXPECT_EQ(next(101).status, 0);
  EXPECT_TRUE(packets.empty());
  go.count_down();
  for (uint64_t id = 1; id <= kLong; ++id)
    EXPECT_EQ(next(id).status, 0);
}

TEST_F(DispatcherTest, ProgressComesBeforeTheResult) {
  start({{"list", {[](const AdminCall& call) {
            Progress progress = call.progress();
            for (int i = 0; i < 1000; ++i)
              progress.report(1, 2, 3, 4, 5);
            return json{{"done", true}};
          }}}});
  ask(1, R"({"op": "list"})");
  Answer a = next(1);
  EXPECT_FALSE(a.last);
  EXPECT_EQ(a.body, json::parse(R"({"progress": {"done": 1, "total": 2, "bytes": 3, "total_bytes": 4, "failed": 5}})"));
  int more = 0;
  for (a = next(1); !a.last; a = next(1))
    ++more;
  EXPECT_LT(more, 100);  // five a second
  EXPECT_EQ(a.body, (json{{"done", true}}));
}

TEST_F(DispatcherTest, StopCancelsWhatRuns) {
  std::latch runs(1);
  start({{"check", {[&](const AdminCall& call) -> AdminAnswer {
            runs.count_down();
            while (!call.cancelled())
              std::this_thread::yield();
            return make_error(ECANCELED, "stopped");
          }}}});
  ask(1, R"({"op": "check"})");
  runs.wait();
  EXPECT_TRUE(dispatcher->busy());
  dispatcher->stop();
  EXPECT_FALSE(dispatcher->busy());
  EXPECT_EQ(next(1).status, ECANCELED);
}

TEST_F(DispatcherTest, AnAskerTellsWhenItStarted) {
  start({{"age", {[](const AdminCall& call) {
            const auto age = AdminCall::Clock::now() - call.asked();
            return json{{"s", std::chrono::duration_cast<std::chrono::seconds>(age).count()}};
          }}}});
  auto age_of = [&](const std::string& member) {
    return answer(R"({"op": "age")" + member + "}").body["s"].get<int>();
  };
  EXPECT_LT(age_of(""), 60);
  EXPECT_LT(age_of(R"(, "age_ms": -5)"), 60);
  EXPECT_GE(age_of(R"(, "age_ms": 100000)"), 100);
  EXPECT_LT(age_of(R"(, "age_ms": 18446744073709551615)"), 3700);  // an hour at most
}

}  // namespace
}  // namespace larder
