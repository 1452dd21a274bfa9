// Which engine a metadata URL opens.
#include "cached/meta/open/open_meta.h"

#include <gtest/gtest.h>

#include "tests/cached/meta/meta_fixture.h"
#include "tests/cached/store/http/live_server.h"

namespace larder {
namespace {

TEST(OpenMeta, ADirectoryIsTheUrlsOrTheStateFolder) {
  testing::TempDir state;
  {
    auto meta = open_meta("local://" + state.path() + "/a", "/nonexistent");
    ASSERT_TRUE(meta.ok()) << meta.error().message;
    ASSERT_TRUE((*meta)->put_dataset(testing::definition("a")).ok());
  }
  auto same = open_meta("local:", state.path() + "/a");
  ASSERT_TRUE(same.ok()) << same.error().message;
  EXPECT_TRUE((*same)->get_dataset("a")->has_value());
}

TEST(OpenMeta, AUrlOfAnotherKindIsRefusedWithoutItsPassword) {
  testing::TempDir dir;
  auto other = open_meta("postgres://:password@host/0", dir.path());
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().code, EINVAL);
  EXPECT_EQ(other.error().message.find("password"), std::string::npos);
  EXPECT_EQ(open_meta("local://relative", dir.path()).error().code, EINVAL);
}

}  // namespace
}  // namespace larder
