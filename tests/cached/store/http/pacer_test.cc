#include "cached/store/http/pacer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <queue>
#include <vector>

namespace larder {
namespace {

using namespace std::chrono_literals;
using Outcome = Concurrency::Outcome;

// A store that works on `workers` requests at once, each for `service` ms; what comes on top waits. Time is simulated.
struct QueueingStore {
  double service = 20;
  size_t workers = 16;
  double extra = 0;  // latency that has nothing to do with how many there are
};

// Runs `requests` demand requests, as many at once as allowed; returns requests a second of simulated time.
double run(Concurrency& c, const QueueingStore& store, int requests) {
  struct Event {
    double end, begun;
    bool operator>(const Event& o) const { return end > o.end; }
  };
  std::priority_queue<Event, std::vector<Event>, std::greater<>> active;
  std::vector<double> free_at(store.workers, 0.0);
  double now = 0;
  for (int begun = 0, ended = 0; ended < requests;) {
    while (begun < requests && c.may_start(true)) {
      c.started(true);
      auto worker = std::min_element(free_at.begin(), free_at.end());
      *worker = std::max(*worker, now) + store.service;
      active.push({*worker + store.extra, now});
      ++begun;
    }
    const Event e = active.top();
    active.pop();
    now = e.end;
    c.ended(true, Outcome::kSuccess, std::chrono::microseconds(static_cast<int64_t>((e.end - e.begun) * 1000)),
            Concurrency::Clock::time_point() + std::chrono::milliseconds(static_cast<int64_t>(now)));
    ++ended;
  }
  return requests / now * 1000;
}

TEST(ConcurrencyTest, GrowsFastWhileNothingIsWrong) {
  Concurrency c(64);
  EXPECT_EQ(c.limit(), Concurrency::kStart);
  run(c, {30, 1000}, 200);
  EXPECT_EQ(c.limit(), 64) << "a cold epoch must not spend its first thousand GETs on half the connections";
}

TEST(ConcurrencyTest, DoesNotGrowWithoutNeed) {
  Concurrency c(64);
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(c.may_start(true));
    c.started(true);
    c.ended(true, Outcome::kSuccess, 1ms, {});
  }
  EXPECT_EQ(c.limit(), Concurrency::kStart);
}

TEST(ConcurrencyTest, StaysNearWhatAStoreCanWorkOnAtOnce) {
  Concurrency c(512);
  const double reached = run(c, {20, 16}, 20000);
  EXPECT_LT(c.limit(), 80) << "512 at a store that can do 16 only make everybody wait";
  EXPECT_GT(reached, 0.95 * 16 / 0.020) << "and the store is as busy as it can be";
}

TEST(ConcurrencyTest, SlownessThatIsNotOursCostsNoConcurrency) {
  Concurrency c(64);
  run(c, {20, 1000}, 2000);
  run(c, {20, 1000, 200}, 4000);  // ten times slower, however many there are
  EXPECT_GE(c.limit(), 48);
}

TEST(ConcurrencyTest, AThrottleHalvesOnceABurst) {
  Concurrency c(64);
  run(c, {30, 1000}, 1000);
  auto now = Concurrency::Clock::time_point() + 10s;
  for (int i = 0; i < 20; ++i) {
    c.started(true);
    c.ended(true, Outcome::kThrottled, 0ms, now);
  }
  EXPECT_EQ(c.limit(), 32);
  for (int i = 0; i < 20; ++i) {
    c.started(true);
    c.ended(true, Outcome::kThrottled, 0ms, now += 600ms);
  }
  EXPECT_EQ(c.limit(), Concurrency::kFloor);
}

TEST(ConcurrencyTest, FillLeavesWhatDemandUses) {
  Concurrency c(64);
  run(c, {30, 1000}, 1000);
  int fill = 0;
  while (c.may_start(false))
    c.started(false), ++fill;
  EXPECT_EQ(fill, 16) << "demand used all 64 a moment ago: a quarter is left to fill";
  EXPECT_TRUE(c.may_start(true));
  // Demand went: fill gets all but an eighth.
  for (int i = 0; i < 20000; ++i) {
    c.ended(false, Outcome::kSuccess, 30ms, {});
    --fill;
    while (c.may_start(false))
      c.started(false), ++fill;
  }
  EXPECT_EQ(fill, 56);
}

TEST(RateCapTest, AveragesOverTimeAndDemandPaysForItselfOnly) {
  RateCap cap(1000);
  auto now = RateCap::Clock::time_point() + 100s;
  int fills = 0, demands = 0;
  for (auto end = now + 10s; now < end; now += 1ms) {
    if (now < end - 5s && cap.wait(true, now).count() == 0 && demands * 500 < 5000) {
      cap.charge(true, 500, now);
      ++demands;
    }
    if (cap.wait(false, now).count() == 0) {
      cap.charge(false, 250, now);
      ++fills;
    }
  }
  EXPECT_EQ(demands, 10) << "half a thousand each: all the cap of five seconds";
  EXPECT_NEAR(demands * 500 + fills * 250, 10'000, 600);
}

TEST(RateCapTest, DemandDoesNotWaitForALargeFill) {
  RateCap cap(1 << 20);
  auto now = RateCap::Clock::time_point() + 100s;
  cap.charge(false, 64 << 20, now);
  EXPECT_EQ(cap.wait(true, now).count(), 0);
  EXPECT_GT(cap.wait(false, now), 60s);
}

TEST(RateCapTest, NoCapIsNoCap) {
  RateCap cap(0);
  cap.charge(false, 1e18, {});
  EXPECT_EQ(cap.wait(false, {}).count(), 0);
}

TEST(SlowestRequestsTest, IsTheNinetyNinthPercentButNeverEarlierThanAsked) {
  SlowestRequests s(20ms);
  for (int i = 0; i < 50; ++i)
    s.add(1s);
  EXPECT_EQ(s.after(), 20ms) << "50 requests say nothing about the slowest of a hundred";
  SlowestRequests t(20ms);
  for (int i = 0; i < 1000; ++i)
    t.add(i % 50 == 0 ? 900ms : 30ms);  // 2 % are slow
  EXPECT_GE(t.after(), 800ms);
  EXPECT_LE(t.after(), 1200ms);
  SlowestRequests u(2s);
  for (int i = 0; i < 1000; ++i)
    u.add(30ms);
  EXPECT_EQ(u.after(), 2s);
}

}  // namespace
}  // namespace larder
