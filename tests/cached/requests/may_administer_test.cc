#include "cached/requests/may_administer.h"

#include <grp.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace larder {
namespace {

constexpr uid_t kStranger = 31337;

Peer peer(uid_t uid, gid_t gid, std::vector<gid_t> groups = {}) {
  return {.pid = 1, .uid = uid, .gid = gid, .groups = std::move(groups)};
}

TEST(MayAdminister, RootAndTheDaemonsOwnUser) {
  for (const char* group : {"", "no-such-group", "daemon"}) {
    EXPECT_TRUE(may_administer(peer(0, 1), group));
    EXPECT_TRUE(may_administer(peer(::geteuid(), 1), group));
  }
}

TEST(MayAdminister, MembersOfTheGroupThatIsNamed) {
  const struct group* known = ::getgrnam("daemon");
  if (!known) GTEST_SKIP() << "this system has no group daemon";
  const gid_t id = known->gr_gid;
  EXPECT_TRUE(may_administer(peer(kStranger, id), "daemon"));
  EXPECT_TRUE(may_administer(peer(kStranger, 40000, {40001, id}), "daemon"));
  EXPECT_FALSE(may_administer(peer(kStranger, 40000, {40001}), "daemon"));
}

TEST(MayAdminister, NobodyElseWithoutAGroup) {
  EXPECT_FALSE(may_administer(peer(kStranger, 0, {0}), ""));
  EXPECT_FALSE(may_administer(peer(kStranger, 0, {0}), "no-such-group"));
}

}  // namespace
}  // namespace larder
