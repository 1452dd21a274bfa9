#include "cached/fetch/object_fetcher.h"

#include <latch>

#include "cached/fetch/background_fill.h"
#include "cached/requests/warm_job.h"
#include "tests/cached/fakes.h"

namespace larder {
namespace {

using test::eventually;
using test::Inside;
using test::Outside;

class ObjectFetcherTest : public ::testing::Test {
 protected:
  void fill_bucket(int n) {
    for (int i = 0; i < n; ++i)
      out.bucket->put(name(i), fmt::format("body of {}", i));
  }
  static std::string name(int i) { return fmt::format("d{}/f{:04}", i % 4, i); }
  Outside out;
};

TEST_F(ObjectFetcherTest, AThousandWaitersOneGet) {
  fill_bucket(1);
  Inside in(out);
  auto d = in.mount();
  out.bucket->set_open(false);
  std::atomic<int> good{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 250; ++i)
        in.flights.fetch(in.object(d, name(0)),
                         [&](const Status& s, std::shared_ptr<Fd> fd) { good += s.ok() && fd->valid(); });
    });
  for (auto& t : threads)
    t.join();
  EXPECT_EQ(in.flights.counts().in_flight, 1u);
  out.bucket->set_open(true);
  EXPECT_TRUE(eventually([&] { return good == 1000; }));
  EXPECT_EQ(out.bucket->get_count(), 1u);
}

// Eight processes that open the same 500 absent files cause exactly 500 GETs, even if a flight lands while others ask.
TEST_F(ObjectFetcherTest, EightReadersOfFiveHundredFilesCauseFiveHundredGets) {
  fill_bucket(500);
  Inside in(out, 64);
  auto d = in.mount();
  std::latch go(8);
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      go.arrive_and_wait();
      for (int i = 0; i < 500; ++i)
        EXPECT_EQ(in.read(d, name((i * 7 + t) % 500)), fmt::format("body of {}", (i * 7 + t) % 500));
    });
  for (auto& t : threads)
    t.join();
  EXPECT_EQ(out.bucket->get_count(), 500u);
}

TEST_F(ObjectFetcherTest, AnErrorReachesEveryWaiterAndTheNextTryIsNew) {
  fill_bucket(1);
  Inside in(out);
  auto d = in.mount();
  out.bucket->get_error = make_error(EACCES, "denied");
  EXPECT_EQ(in.read(d, name(0)), fmt::format("errno {}", EACCES));
  out.bucket->get_error.reset();
  EXPECT_EQ(in.read(d, name(0)), "body of 0");
}

TEST_F(ObjectFetcherTest, BytesThatTheChecksumIsAgainstAreFetchedAgain) {
  fill_bucket(1);
  Inside in(out);
  auto d = in.mount();
  out.bucket->flips = 3;
  EXPECT_EQ(in.read(d, name(0)), "body of 0");
  EXPECT_EQ(out.bucket->get_count(), 4u);
}

TEST_F(ObjectFetcherTest, WhatIsAlwaysWrongIsAnErrorAndNotKept) {
  fill_bucket(1);
  Inside in(out);
  auto d = in.mount();
  out.bucket->flips = -1;
  EXPECT_EQ(in.read(d, name(0)), fmt::format("errno {}", kWrongBytes));
  EXPECT_EQ(out.bucket->get_count(), 5u);
  out.bucket->flips = 0;
  EXPECT_EQ(in.read(d, name(0)), "body of 0");
}

TEST_F(ObjectFetcherTest, WhereTheChecksumIsAGuessTheSameTwiceIsRight) {
  fill_bucket(1);
  Inside in(out);
  auto d = in.mount();
  out.bucket->flip_error = kDoubtfulBytes;
  out.bucket->flips = -1;
  EXPECT_EQ(in.read(d, name(0)), "body of !");
  EXPECT_EQ(out.bucket->get_count(), 2u);
}

// XFS reports a damaged block as EBADMSG. Nothing but the store's verdict makes bytes doubtful, or right after all.
TEST_F(ObjectFetcherTest, AnErrnoIsNoVerdictOnTheBytes) {
  fill_bucket(1);
  Inside in(out);
  auto d = in.mount();
  out.bucket->flips = -1;
  for (int error : {EBADMSG, EILSEQ}) {
    const auto gets = out.bucket->get_count();
    out.bucket->flip_error = error;
    EXPECT_EQ(in.read(d, name(0)), fmt::format("errno {}", error));
    EXPECT_EQ(out.bucket->get_count(), gets + 1);
  }
}

TEST_F(ObjectFetcherTest, AChangedObjectIsEstaleAfterTheDatasetWasListedAgain) {
  fill_bucket(3);
  Inside in(out);
  auto d = in.mount();
  ASSERT_TRUE(in.datasets.start().ok());  // the thread that lists again
  Object old = in.object(d, name(1)), gone = in.object(d, name(2));
  out.bucket->put(name(1), "replaced");
  out.bucket->remove(name(2));
  EXPECT_EQ(in.fetch(old).first, fmt::format("errno {}", ESTALE));
  EXPECT_EQ(d->version()->version(), 2u);
  EXPECT_EQ(in.read(d, name(1)), "replaced");
  EXPECT_EQ(d->version()->find_file(name(2)), kNoEntry);
  EXPECT_EQ(in.fetch(gone).first, fmt::format("errno {}", ESTALE));
}

// Stores list keys that they cannot serve. Else each open of one lists the whole bucket again.
TEST_F(ObjectFetcherTest, AListedKeyThatTheStoreDoesNotHaveIsEnoentAndNotListedAgain) {
  fill_bucket(4);
  Inside in(out);
  auto d = in.mount();
  ASSERT_TRUE(in.datasets.start().ok());
  auto lists = [&] {
    std::lock_guard lock(out.bucket->mutex);
    return out.bucket->lists;
  };
  const uint64_t before = lists();
  out.bucket->get_error = make_error(ENOENT, "NoSuchKey");
  for (int i : {0, 1, 2, 0})
    EXPECT_EQ(in.read(d, name(i)), fmt::format("errno {}", ENOENT));
  EXPECT_EQ(lists(), before + 1) << "once, to see whether they were deleted";
  out.bucket->get_error.reset();
  EXPECT_EQ(in.read(d, name(0)), "body of 0") << "and it is asked for again when somebody asks";
}

TEST_F(ObjectFetcherTest, AWaiterThatWentIsNotCalledAndWhatHasNotStartedIsNotFetched) {
  fill_bucket(3);
  Inside in(out, 1);
  auto d = in.mount();
  out.bucket->set_open(false);
  std::atomic<int> called{0};
  auto count = [&](const Status&, std::shared_ptr<Fd>) { ++called; };
  in.flights.fetch(in.object(d, name(0)), count);
  uint64_t second = in.flights.fetch(in.object(d, name(1)), count);
  uint64_t third = in.flights.fetch(in.object(d, name(2)), count);
  in.flights.fetch(in.object(d, name(2)), count);
  in.flights.cancel(second);
  in.flights.cancel(third);
  out.bucket->set_open(true);
  EXPECT_TRUE(eventually([&] { return called == 2; }));
  EXPECT_EQ(out.bucket->get_count(), 2u);
}

// Else the program that asked waits for as long as its connection lives.
TEST_F(ObjectFetcherTest, WhoAsksWhenTheDaemonEndsIsTold) {
  fill_bucket(1);
  Inside in(out);
  auto d = in.mount();
  EXPECT_TRUE(in.flights.stop(std::chrono::seconds(5)));
  EXPECT_EQ(in.read(d, name(0)), fmt::format("errno {}", ECANCELED));
  EXPECT_EQ(out.bucket->get_count(), 0u);
}

TEST_F(ObjectFetcherTest, DemandWaitsForNoBackgroundWork) {
  fill_bucket(100);
  Inside in(out, 8);
  auto d = in.mount();
  out.bucket->set_open(false);
  auto job = std::make_shared<WarmJob>(100);
  job->add(d, d->version(), 0, "/data/x");
  in.flights.add_source(job);
  EXPECT_EQ(in.flights.counts().in_flight, 7u);  // seven eighths of 8
  std::atomic<int> called{0};
  std::string wanted;
  for (int i = 90; i < 95; ++i)
    in.flights.fetch(in.object(d, name(i)), [&](const Status&, std::shared_ptr<Fd>) { ++called; });
  EXPECT_EQ(in.flights.counts().in_flight, 7u + 5);
  out.bucket->set_open(true);
  EXPECT_TRUE(eventually([&] { return job->wait(std::chrono::milliseconds(1)).second; }));
  EXPECT_EQ(called, 5);
  std::lock_guard lock(out.bucket->mutex);
  EXPECT_EQ(out.bucket->gets, 100u);
  EXPECT_LE(out.bucket->most_at_once, 7u + 5);
  // The five were among the first 7 + 5, before the rest of the warm job.
  for (int i = 90; i < 95; ++i) {
    auto at = std::find(out.bucket->order.begin(), out.bucket->order.end(), name(i)) - out.bucket->order.begin();
    EXPECT_LT(at, 7 + 5 + 7) << i;
  }
  in.flights.remove_source(job);
}

// A program needs the object that the fill is fetching: the store is told to hurry, once.
TEST_F(ObjectFetcherTest, FillThatAProgramWaitsForIsHurried) {
  fill_bucket(10);
  Inside in(out, 8);
  auto d = in.mount();
  out.bucket->set_open(false);
  auto job = std::make_shared<WarmJob>(100);
  job->add(d, d->version(), d->version()->find_file(name(3)), "/data/x");
  in.flights.add_source(job);
  std::atomic<int> called{0};
  for (int i = 0; i < 3; ++i)
    in.flights.fetch(in.object(d, name(3)), [&](const Status&, std::shared_ptr<Fd>) { ++called; });
  in.flights.fetch(in.object(d, name(4)), [&](const Status&, std::shared_ptr<Fd>) { ++called; });
  out.bucket->set_open(true);
  EXPECT_TRUE(eventually([&] { return called == 4; }));
  std::lock_guard lock(out.bucket->mutex);
  EXPECT_EQ(out.bucket->hurried, std::vector<std::string>{name(3)})
      << "what was demand from the start is in no queue of fill";
  EXPECT_EQ(out.bucket->gets, 2u);
}

TEST_F(ObjectFetcherTest, WarmCountsWhatWasThereAndWhatFailed) {
  fill_bucket(20);
  Inside in(out);
  auto d = in.mount();
  for (int i = 0; i < 5; ++i)
    in.read(d, name(i));
  auto job = std::make_shared<WarmJob>(3);
  job->add(d, d->version(), d->version()->find("d1"), "/data/x");
  job->add(d, d->version(), d->version()->find_file(name(2)), "/data/x");
  in.flights.add_source(job);
  ASSERT_TRUE(eventually([&] { return job->wait(std::chrono::milliseconds(1)).second; }));
  WarmCounts c = job->wait(std::chrono::milliseconds(1)).first;
  EXPECT_EQ(c.files, 6u);
  EXPECT_EQ(c.already, 2u);
  EXPECT_EQ(c.fetched, 4u);
  in.flights.remove_source(job);

  out.bucket->get_error = make_error(EACCES, "denied");
  auto bad = std::make_shared<WarmJob>(3);
  bad->add(d, d->version(), d->version()->find("d2"), "/data/x");
  in.flights.add_source(bad);
  ASSERT_TRUE(eventually([&] { return bad->wait(std::chrono::milliseconds(1)).second; }));
  c = bad->wait(std::chrono::milliseconds(1)).first;
  EXPECT_EQ(c.failed, 4u);
  EXPECT_EQ(c.errors[0], (std::pair<std::string, std::string>("/data/x/" + name(6), "denied")));
  in.flights.remove_source(bad);
}

class FillTest : public ObjectFetcherTest {
 protected:
  void miss(Inside& in, const std::shared_ptr<Dataset>& d, int i) {
    in.filler->missed(d, *d->version(), d->version()->find_file(name(i)));
    in.flights.kick();
  }
};

TEST_F(FillTest, EagerFetchesTheFolderThatIsReadThenTheRestEachOnce) {
  fill_bucket(40);
  Inside in(out, 1);
  auto d = in.mount();
  d->fill = Fill::kEager;
  in.flights.add_source(in.filler);
  EXPECT_EQ(in.filler->state(*d), "off");
  EXPECT_EQ(out.bucket->get_count(), 0u);  // nothing before the first miss
  miss(in, d, 2);
  EXPECT_TRUE(eventually([&] { return in.filler->state(*d) == "done"; }));
  EXPECT_EQ(out.bucket->get_count(), 40u);
  for (int i = 0; i < 10; ++i)
    EXPECT_EQ(out.bucket->order[static_cast<size_t>(i)].substr(0, 3), "d2/");
  EXPECT_EQ(in.cache.usage_of(*d).files, 40u);
}

TEST_F(FillTest, SiblingsFetchesTheFolderOnly) {
  fill_bucket(40);
  Inside in(out);
  auto d = in.mount();
  d->fill = Fill::kSiblings;
  in.flights.add_source(in.filler);
  miss(in, d, 3);
  EXPECT_TRUE(eventually([&] { return in.filler->state(*d) == "done"; }));
  EXPECT_EQ(out.bucket->get_count(), 10u);
}

TEST_F(FillTest, StopsAtTheBudgetAndGoesOnWhenThereIsRoom) {
  for (int i = 0; i < 200; ++i)
    out.bucket->put(name(i), std::string(8192, 'x'));
  out.limits = {1 << 20, 0, 16 << 10};
  Inside in(out);
  auto d = in.mount();
  d->fill = Fill::kEager;
  in.flights.add_source(in.filler);
  miss(in, d, 0);
  EXPECT_TRUE(eventually([&] { return in.filler->state(*d) == "paused"; }));
  EXPECT_EQ(in.cache.usage().staging, 0u);  // never into staging
  uint64_t full = in.cache.usage().files;
  EXPECT_GT(full, 80u);
  EXPECT_EQ(out.bucket->get_count(), full);  // and nothing was fetched for nothing
  EXPECT_GT(in.cache.evict(*d, "d1").files, 10u);
  EXPECT_TRUE(eventually([&] {
    in.filler->tick();
    in.flights.kick();
    return in.cache.usage().files + 1 >= full;  // 1: the checksums took another page
  }));
}

TEST_F(FillTest, AStoreThatIsIllIsLeftInPeace) {
  fill_bucket(100);
  Inside in(out);
  auto d = in.mount();
  d->fill = Fill::kEager;
  in.flights.add_source(in.filler);
  out.bucket->get_error = make_error(EIO, "down");
  miss(in, d, 0);
  EXPECT_TRUE(eventually([&] { return in.filler->state(*d) == "paused"; }));
  EXPECT_LT(out.bucket->get_count(), 30u);
}

}  // namespace
}  // namespace larder
