#include "cached/server/reply.h"

#include <gtest/gtest.h>
#include <poll.h>

namespace larder {
namespace {

class ReplyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Result<std::unique_ptr<Outbox>> made = Outbox::make();
    ASSERT_TRUE(made.ok());
    outbox = std::move(*made);
    reply = std::make_shared<Replier>(outbox.get(), 7, Op::kAdmin);
  }
  bool readable() const {
    struct pollfd p = {outbox->event(), POLLIN, 0};
    return ::poll(&p, 1, 0) == 1;
  }
  std::unique_ptr<Outbox> outbox;
  std::shared_ptr<Replier> reply;
};

TEST_F(ReplyTest, PacketsArriveInTheirOrderWithTheirConnection) {
  EXPECT_FALSE(readable());
  reply->text(0, "one", true);
  reply->text(EIO, "two");
  EXPECT_TRUE(readable());
  Outbox::Posted posted = outbox->take();
  EXPECT_FALSE(readable());
  ASSERT_EQ(posted.size(), 2u);
  EXPECT_EQ(posted[0].first, 7u);
  EXPECT_EQ(posted[0].second.payload, "one");
  EXPECT_FALSE(posted[0].second.is_last());
  EXPECT_EQ(posted[1].second.header.status, EIO);
  EXPECT_EQ(posted[1].second.header.payload_len, 3u);
  EXPECT_TRUE(posted[1].second.is_last());
  EXPECT_TRUE(outbox->take().empty());
}

TEST_F(ReplyTest, NothingFollowsTheFinalReply) {
  reply->done();
  reply->fail(EIO);
  reply->text(0, "late", true);
  ASSERT_EQ(outbox->take().size(), 1u);
}

TEST_F(ReplyTest, AReplyThatIsTooLargeIsAnErrorAndFinal) {
  reply->text(0, std::string(kMaxPacket, 'x'), true);
  reply->done();
  Outbox::Posted posted = outbox->take();
  ASSERT_EQ(posted.size(), 1u);
  EXPECT_EQ(posted[0].second.header.status, EMSGSIZE);
  EXPECT_TRUE(posted[0].second.payload.empty());
}

TEST_F(ReplyTest, NothingIsPostedOnceTheClientHasGone) {
  reply->set_gone();
  outbox->take();
  outbox.reset();  // the replier outlives it
  reply->done();
  EXPECT_TRUE(reply->gone());
}

TEST_F(ReplyTest, TheCallbackOfAClientThatGoesRunsOnceAndMayUseTheReplier) {
  int first = 0, second = 0;
  reply->when_gone([&] { ++first; });
  reply->when_gone([&] {
    ++second;
    reply->done();
    reply->when_gone([&] { ++second; });  // at once: the client has gone
  });
  EXPECT_EQ(second, 0);
  reply->set_gone();
  EXPECT_EQ(first, 0);
  EXPECT_EQ(second, 2);
  reply->set_gone();
  EXPECT_EQ(second, 2);
}

// What a callback holds may own the replier, or take locks when it is destroyed.
TEST_F(ReplyTest, ACallbackThatIsNotNeededIsDestroyedWithoutTheLock) {
  struct UsesItsReplier {
    explicit UsesItsReplier(Replier* r) : replier(r) {}
    ~UsesItsReplier() { replier->done(); }
    Replier* replier;
  };
  reply->when_gone([held = std::make_shared<UsesItsReplier>(reply.get())] {});
  reply->when_gone([held = std::make_shared<UsesItsReplier>(reply.get())] {});
  EXPECT_EQ(outbox->take().size(), 1u);  // the first one's destruction
}

}  // namespace
}  // namespace larder
