#include "cached/fetch/missing_objects.h"

#include "tests/cached/fakes.h"

namespace larder {
namespace {

using std::chrono::seconds;

TEST(MissingObjects, AListingThatChangedNothingIsNotMadeAgainSoon) {
  test::Outside out;
  out.bucket->put("a", "1");
  test::Inside in(out);
  auto d = in.mount();
  MissingObjects missing;
  const auto start = MissingObjects::Clock::now();
  EXPECT_TRUE(missing.is_listing_due(*d, start));
  EXPECT_FALSE(missing.is_listing_due(*d, start));
  EXPECT_FALSE(missing.is_listing_due(*d, start + seconds(29)));
  EXPECT_TRUE(missing.is_listing_due(*d, start + seconds(30)));
  EXPECT_FALSE(missing.is_listing_due(*d, start + seconds(60 + 29))) << "twice as long";
  EXPECT_TRUE(missing.is_listing_due(*d, start + seconds(60 + 30)));
}

// Else a deleted file is seen for long.
TEST(MissingObjects, AfterANewVersionAListingIsDueAtOnce) {
  test::Outside out;
  out.bucket->put("a", "1");
  test::Inside in(out);
  auto d = in.mount();
  MissingObjects missing;
  const auto start = MissingObjects::Clock::now();
  EXPECT_TRUE(missing.is_listing_due(*d, start));
  out.bucket->put("b", "2");
  ASSERT_TRUE(in.datasets.refresh(d->def.name, {}).ok());
  EXPECT_TRUE(missing.is_listing_due(*d, start));
  EXPECT_FALSE(missing.is_listing_due(*d, start));
}

}  // namespace
}  // namespace larder
