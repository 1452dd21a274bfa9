// What stays in a full cache: sieve, quotas, pins. (keep: object_cache_test.cc, object_fetcher_test.cc.)
#include <random>

#include "cached/cache/object_cache.h"
#include "tests/cached/fakes.h"

namespace larder {
namespace {

using test::Inside;
using test::must;
using test::Outside;

class Policies : public ::testing::Test {
 protected:
  Policies() { out.limits = {2 << 20, 0, 64 << 10}; }
  void fill_bucket(int n, int size = 8192) {
    for (int i = 0; i < n; ++i)
      out.bucket->put(name(i), std::string(static_cast<size_t>(size), static_cast<char>('a' + i % 26)));
  }
  static std::string name(int i) { return fmt::format("d{}/f{:04}", i % 4, i); }
  static int resident(Inside& in, const std::shared_ptr<Dataset>& d, int from, int to) {
    int n = 0;
    for (int i = from; i < to; ++i)
      n += in.state(d, name(i)) == kResident;
    return n;
  }
  // Reads as a program does: from the cache with a touch, else by a fetch. True: it was cached.
  static bool read(Inside& in, const std::shared_ptr<Dataset>& d, const std::string& path, Mapping& touch) {
    uint32_t entry = d->version()->find_file(path);
    if (d->version()->state(entry) == kResident) return static_cast<uint8_t*>(touch.data())[entry] = 1, true;
    EXPECT_EQ(in.read(d, path).size(), in.object(d, path).size);
    return false;
  }
  static Mapping touches(const std::shared_ptr<Dataset>& d) {
    return must(Mapping::map(d->version()->touch().get(), d->version()->catalog().entry_count, true));
  }
  // Hits of a skewed trace (Zipf) in the second half.
  int skewed_hits(Policy policy) {
    Inside in(out);
    auto d = in.mount(policy == Policy::kSieve ? "/data/s" : "/data/k");
    in.cache.configure(*d, policy, {});
    Mapping touch = touches(d);
    std::vector<double> weights;
    for (int i = 0; i < 1000; ++i)
      weights.push_back(1.0 / ((i * 7919 % 1000) + 1));  // neither first nor last in the listing
    std::discrete_distribution<int> pick(weights.begin(), weights.end());
    std::mt19937 random(5);
    int hits = 0;
    for (int i = 0; i < 8000; ++i)
      hits += read(in, d, name(pick(random)), touch) && i >= 4000;
    EXPECT_LE(in.cache.usage().used, out.limits.cache_size);
    EXPECT_EQ(in.cache.usage().staging > 0, policy == Policy::kKeep);
    return hits;
  }
  Outside out;
};

// "`sieve` is the option for skewed access"
TEST_F(Policies, SieveKeepsWhatIsReadAgain) {
  fill_bucket(1000);
  int keep = skewed_hits(Policy::kKeep);
  std::filesystem::remove_all(out.config.cache_dir);
  int sieve = skewed_hits(Policy::kSieve);
  EXPECT_GT(sieve, keep + 150) << "of 4000";
}

TEST_F(Policies, SieveSparesWhatWasVisitedAlsoAfterARefresh) {
  fill_bucket(400);
  Inside in(out);
  auto d = in.mount();
  in.cache.configure(*d, Policy::kSieve, {});
  int full = 0;
  for (; in.cache.has_room(*d, 8192); ++full)
    in.read(d, name(full));
  Mapping touch = touches(d);
  for (int i = 0; i < 20; ++i)
    read(in, d, name(i), touch);
  in.read(d, name(full));  // the hand passes the twenty, takes their marks, and stands at 21
  EXPECT_EQ(resident(in, d, 0, 20), 20);
  EXPECT_EQ(in.state(d, name(20)), kAbsent);
  out.bucket->put("a/new", "x");  // every entry has another number now
  ASSERT_TRUE(in.datasets.refresh(d->def.name, {}).ok());
  for (int i = full + 1; i < full + 40; ++i)
    in.read(d, name(i));
  EXPECT_EQ(resident(in, d, 0, 20), 20) << "the hand has not been round";
  EXPECT_LT(resident(in, d, 20, 64), 8) << "the oldest unvisited went";
  EXPECT_LE(in.cache.usage().used, out.limits.cache_size);
}

TEST_F(Policies, ThePolicyMayChangeAtAnyTime) {
  fill_bucket(600);
  Inside in(out);
  auto d = in.mount();
  std::mt19937 random(1);
  for (int i = 0; i < 1500; ++i) {
    if (i % 300 == 299) in.cache.configure(*d, i % 600 == 299 ? Policy::kSieve : Policy::kKeep, {});
    ASSERT_EQ(in.read(d, name(static_cast<int>(random() % 600))).size(), 8192u);
    ASSERT_LE(in.cache.usage().used, out.limits.cache_size);
  }
}

TEST_F(Policies, ADatasetStaysWithinItsQuotaAndTakesNothingFromOthers) {
  fill_bucket(200);
  Inside in(out);
  auto other = in.mount("/data/other");
  for (int i = 0; i < 80; ++i)
    in.read(other, name(i));
  auto d = in.mount("/data/x");
  const uint64_t quota = 400 << 10;  // 50 files
  in.cache.configure(*d, {}, quota);
  for (int epoch = 0; epoch < 3; ++epoch)
    for (int i = 0; i < 200; ++i) {
      ASSERT_EQ(in.read(d, name(i)).size(), 8192u);
      ASSERT_LE(in.cache.usage_of(*d).bytes, quota);
    }
  EXPECT_EQ(resident(in, other, 0, 80), 80);
  EXPECT_GE(resident(in, d, 0, 50), 48) << "keep: what came first stays, the share of staging is as small as the quota";
  EXPECT_FALSE(in.cache.has_room(*d, 8192));
  EXPECT_TRUE(in.cache.has_room(*other, 8192));
}

TEST_F(Policies, AQuotaHoldsAtOnceExceptForFilesInUse) {
  fill_bucket(120);
  Inside in(out);
  auto d = in.mount();
  for (int i = 0; i < 100; ++i)
    in.read(d, name(i));
  auto [body, held] = in.fetch(in.object(d, name(5)));
  in.cache.configure(*d, {}, 4096);
  in.cache.keep_quota(*d);
  EXPECT_EQ(in.cache.usage_of(*d).files, 1u);
  EXPECT_EQ(in.state(d, name(5)), kResident);
  EXPECT_EQ(in.read(d, name(100)), fmt::format("errno {}", EFBIG));
  held.reset();
  in.cache.keep_limits();
  EXPECT_EQ(in.cache.usage_of(*d).files, 0u);
  in.cache.configure(*d, {}, 0);
  for (int i = 0; i < 100; ++i)
    in.read(d, name(i));
  EXPECT_EQ(in.cache.usage_of(*d).files, 100u);
}

TEST_F(Policies, APinnedFileIsNeverEvictedToMakeRoom) {
  fill_bucket(600);
  for (Policy policy : {Policy::kKeep, Policy::kSieve}) {
    Inside in(out);
    auto d = in.mount();
    in.cache.configure(*d, policy, {});
    for (int i = 0; i < 600; ++i)
      in.read(d, name(i));  // full
    ASSERT_TRUE(in.cache.pin(*d, {name(597), name(599), "d1/f0001", "d1/f0005"}).ok());
    for (const std::string& path : {name(597), name(599), name(1), name(5)})
      in.read(d, path);
    for (int epoch = 0; epoch < 2; ++epoch)
      for (int i = 0; i < 600; ++i)
        ASSERT_EQ(in.read(d, name(i)).size(), 8192u);
    for (int i : {597, 599, 1, 5})
      EXPECT_EQ(in.state(d, name(i)), kResident) << i;
    in.cache.make_space(64 << 20);  // another program fills the file system
    EXPECT_EQ(in.cache.usage_of(*d).files, 4u);
    EvictCounts c = in.cache.evict(*d, "");
    EXPECT_EQ(c.files, 0u);
    EXPECT_EQ(c.pinned, 4u);
    EXPECT_EQ(in.cache.usage_of(*d).pinned_files, 4u);
    EXPECT_EQ(in.cache.usage_of(*d).pinned_bytes, 4u * 8192);
    EXPECT_EQ(must(in.cache.unpin(*d, "")), 4u);
    EXPECT_EQ(in.cache.evict(*d, "").files, 4u);
  }
}

// `larder warm --pin` on a full cache: it is background work, but pinned objects make room for themselves.
TEST_F(Policies, WhatIsPinnedIsFetchedIntoAFullCacheAndStays) {
  fill_bucket(600);
  Inside in(out);
  auto d = in.mount();
  for (int i = 0; i < 400; ++i)
    in.read(d, name(i));
  Result<Room> refused = in.cache.admit(in.object(d, name(500)), false);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ENOSPC);
  ASSERT_TRUE(in.cache.pin(*d, {"d3"}).ok());  // 150 files
  for (int i = 3; i < 600; i += 4) {
    Result<Room> room = in.cache.admit(in.object(d, name(i)), false);
    ASSERT_TRUE(room.ok() || in.state(d, name(i)) == kResident) << i << room.error().message;
    EXPECT_FALSE(room.ok() && room->staged());
    room = make_error(ENOENT, "given back");
    in.read(d, name(i));
  }
  for (int i = 0; i < 600; ++i)
    ASSERT_EQ(in.read(d, name(i)).size(), 8192u);
  for (int i = 3; i < 600; i += 4)
    EXPECT_EQ(in.state(d, name(i)), kResident);
  EXPECT_LE(in.cache.usage().used, out.limits.cache_size);
}

TEST_F(Policies, MoreThanFitsIsNotPinned) {
  fill_bucket(600);
  Inside in(out);
  auto d = in.mount();
  Status s = in.cache.pin(*d, {""});
  ASSERT_FALSE(s.ok());
  EXPECT_EQ(s.error().code, ENOSPC);
  EXPECT_EQ(in.cache.usage_of(*d).pinned_files, 0u);
  in.cache.configure(*d, {}, 800 << 10);
  EXPECT_FALSE(in.cache.pin(*d, {"d0"}).ok()) << "1.2 MB in a quota of 800 KiB";
  in.cache.configure(*d, {}, 0);
  ASSERT_TRUE(in.cache.pin(*d, {"d0"}).ok());
  auto other = in.mount("/data/y");
  EXPECT_FALSE(in.cache.pin(*other, {"d1"}).ok()) << "of all datasets together";
}

TEST_F(Policies, PinsFollowARefreshAndARestart) {
  fill_bucket(40);
  {
    Inside in(out);
    auto d = in.mount();
    ASSERT_TRUE(in.cache.pin(*d, {"d1"}).ok());
    for (int i = 0; i < 40; ++i)
      in.read(d, name(i));
    out.bucket->put("d1/f0001", "changed");
    out.bucket->put("d1/more", "added");
    ASSERT_TRUE(in.datasets.refresh(d->def.name, {}).ok());
    EXPECT_EQ(in.cache.usage_of(*d).pinned_files, 11u);
    in.read(d, "d1/f0001");
    in.read(d, "d1/more");
    EXPECT_EQ(in.cache.evict(*d, "").pinned, 11u);
  }
  {
    Inside in(out);
    auto d = in.mount();
    EXPECT_EQ(in.cache.usage_of(*d).pinned_files, 11u);
    EXPECT_EQ(in.cache.evict(*d, "").files, 0u);
    EXPECT_EQ(in.cache.usage_of(*d).files, 11u);
    ASSERT_TRUE(in.datasets.umount("/data/x").ok());
    EXPECT_EQ(in.cache.usage_of(*d).pinned_files, 0u) << "unmounted, it is a leftover like any other";
  }
}

// A pinned folder grew beyond the cache: what fits stays pinned, and reads go on.
TEST_F(Policies, APinnedFolderThatGrowsTooLargeLeavesRoomForReading) {
  fill_bucket(40);
  Inside in(out);
  auto d = in.mount();
  ASSERT_TRUE(in.cache.pin(*d, {""}).ok());
  fill_bucket(800);
  ASSERT_TRUE(in.datasets.refresh(d->def.name, {}).ok());
  for (int epoch = 0; epoch < 2; ++epoch)
    for (int i = 0; i < 800; ++i)
      ASSERT_EQ(in.read(d, name(i)).size(), 8192u) << i;
  EXPECT_LT(in.cache.usage_of(*d).pinned_bytes, out.limits.cache_size);
  EXPECT_GT(in.cache.usage_of(*d).pinned_bytes, out.limits.cache_size / 2);
  EXPECT_LE(in.cache.usage().used, out.limits.cache_size);
}

}  // namespace
}  // namespace larder
