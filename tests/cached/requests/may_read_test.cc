#include "cached/requests/may_read.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace larder {
namespace {

constexpr gid_t kTeam = 4242;
constexpr uid_t kStranger = 31337;

Peer peer(uid_t uid, gid_t gid, std::vector<gid_t> groups = {}) {
  return {.pid = 1, .uid = uid, .gid = gid, .groups = std::move(groups)};
}

TEST(MayRead, EverybodyReadsWhatIsNotRestricted) {
  EXPECT_TRUE(may_read(peer(kStranger, 1), std::nullopt));
}

TEST(MayRead, ARestrictedDatasetIsForMembersOfItsGroup) {
  EXPECT_TRUE(may_read(peer(kStranger, kTeam), kTeam));
  EXPECT_TRUE(may_read(peer(kStranger, 1, {7, kTeam}), kTeam));
  EXPECT_FALSE(may_read(peer(kStranger, 1, {7, kTeam + 1}), kTeam));
}

TEST(MayRead, RootAndTheDaemonsOwnUserReadEverything) {
  EXPECT_TRUE(may_read(peer(0, 0), kTeam));
  EXPECT_TRUE(may_read(peer(::geteuid(), 1), kTeam));
}

}  // namespace
}  // namespace larder
