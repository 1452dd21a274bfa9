// Which GET goes next, whatever it fetches: cached/fetch/fetch_scheduler.h.
#include "cached/fetch/fetch_scheduler.h"

#include "tests/cached/fakes.h"

namespace larder {
namespace {

using test::Inside;
using test::Outside;

struct Get;
struct Flight : Scheduled<Get> {
  uint64_t dataset() const { return of; }
  bool waited_for() const { return waiters > 0; }
  uint64_t of = 0;
  std::string name;
  int waiters = 0;
};
struct Get : ScheduledGet<Flight> {
  const Object& object() const { return none; }
  Object none{};
};

// GETs that go nowhere: they are noted when they start, and end when the test says so.
class Noted : public FetchScheduler<Flight, Get> {
 public:
  using FetchScheduler::Connections;
  using FetchScheduler::FlightPtr;
  using FetchScheduler::GetPtr;
  Noted(ObjectCache& cache, Connections connections, uint32_t wait_ms = 1000)
      : FetchScheduler(cache, connections, wait_ms) {}

  FlightPtr add(const std::string& name, Rank rank, int waiters = 0, uint64_t dataset = 0) {
    auto f = std::make_shared<Flight>();
    f->of = dataset;
    f->name = name;
    f->rank = rank;
    f->waiters = waiters;
    MutexLock lock(mutex_);
    enqueue_locked(f, rank);
    return f;
  }
  void add_fill(const std::string& name, uint64_t dataset = 0) {
    auto f = std::make_shared<Flight>();
    f->of = dataset;
    f->name = name;
    f->rank = Rank::kFill;
    MutexLock lock(mutex_);
    fill.push_back(f);
  }
  bool demand(const FlightPtr& f) {
    MutexLock lock(mutex_);
    f->waiters = 1;
    return demand_locked(f);
  }
  // As if GETs of this dataset had brought nothing for a while.
  void hang(uint64_t dataset) {
    for (const GetPtr& get : running)
      if (get->dataset == dataset) get->moved = Clock::now() - std::chrono::hours(1);
    tick();
  }
  // Ends the first GET that started; `status` as if the store had said so.
  void end(const Status& status = {}) {
    const GetPtr get = running.front();
    running.erase(running.begin());
    {
      MutexLock lock(mutex_);
      const FlightPtr f = get->flights.front();
      end_get_locked(*get);
      retry_as_demand_locked(f, status, get->background);
    }
    kick();
  }

  std::vector<std::string> started, given_up;
  std::vector<GetPtr> running;
  std::vector<FlightPtr> fill;
  int refuse = 0;  // so many find no room
  int error = 0;   // of those that were given up

 private:
  GetPtr begin_locked(FlightPtr first) override REQUIRES(mutex_) {
    auto get = std::make_shared<Get>();
    add_locked(get, first);
    return get;
  }
  GetPtr begin_fill_locked() override REQUIRES(mutex_) {
    for (auto it = fill.begin(); it != fill.end(); ++it) {
      if (!may_fill_locked((*it)->of)) continue;
      const FlightPtr f = *it;
      fill.erase(it);
      return begin_locked(f);
    }
    return nullptr;
  }
  void start(const GetPtr& get) override {
    if (refuse > 0) {
      --refuse;
      EXPECT_TRUE(park(get->flights.front(), make_error(EAGAIN, "no room")));
      return end_get(*get);
    }
    started.push_back(get->flights.front()->name + (get->background ? " behind" : ""));
    running.push_back(get);
  }
  Status take(Get&, std::span<const std::byte>) override { return {}; }
  void came(const GetPtr&, Status) override {}
  void give_up(const std::vector<FlightPtr>& flights, const Error& e) override {
    for (const FlightPtr& f : flights)
      given_up.push_back(f->name);
    if (!flights.empty()) error = e.code;
  }
};

class FetchSchedulerTest : public ::testing::Test {
 protected:
  using Names = std::vector<std::string>;
  Outside out;
  Inside in{out};
};

TEST_F(FetchSchedulerTest, DemandGoesBeforeWhatIsReadAheadAndBothBeforeFill) {
  Noted s(in.cache, {.all = 1, .background = 1, .demand_is_apart = false});
  s.add_fill("fill");
  s.add("ahead", Rank::kAhead);
  s.add("first", Rank::kDemand, 1);
  s.add("second", Rank::kDemand, 1);
  s.kick();
  for (int i = 0; i < 3; ++i)
    s.end();
  EXPECT_EQ(s.started, (Names{"first", "second", "ahead behind", "fill behind"}));
  s.end();
  EXPECT_TRUE(s.stop(std::chrono::seconds(1)));
}

// Else a program waits for a connection until the fill lets go of one.
TEST_F(FetchSchedulerTest, BackgroundWorkLeavesConnectionsToDemand) {
  Noted s(in.cache, {.all = 4, .background = 3, .demand_is_apart = false});
  for (const char* name : {"a", "b", "c", "d"})
    s.add(name, Rank::kAhead);
  s.kick();
  EXPECT_EQ(s.counts().in_flight, 3u);
  s.add("e", Rank::kDemand, 1);
  s.add("f", Rank::kDemand, 1);
  s.kick();
  EXPECT_EQ(s.started, (Names{"a behind", "b behind", "c behind", "e"}));

  Noted apart(in.cache, {.all = 2, .background = 2, .demand_is_apart = true});
  for (const char* name : {"a", "b", "c"})
    apart.add_fill(name);
  apart.kick();
  for (const char* name : {"d", "e", "f"})
    apart.add(name, Rank::kDemand, 1);
  apart.kick();
  EXPECT_EQ(apart.started, (Names{"a behind", "b behind", "d", "e"})) << "as many besides as there are connections";
}

TEST_F(FetchSchedulerTest, AReaderMovesUpWhatIsQueuedAndHurriesWhatIsUnderWay) {
  Noted s(in.cache, {.all = 1, .background = 1, .demand_is_apart = false});
  auto running = s.add("running", Rank::kAhead);
  s.kick();
  s.add("ahead", Rank::kAhead);
  auto wanted = s.add("wanted", Rank::kAhead);
  EXPECT_TRUE(s.demand(running));
  EXPECT_FALSE(s.demand(running)) << "the store is told once";
  EXPECT_FALSE(s.demand(wanted)) << "the store has not heard of it";
  s.end();
  EXPECT_EQ(s.started, (Names{"running behind", "wanted"}));
}

// In the order in which they asked, and before those that asked later.
TEST_F(FetchSchedulerTest, WhatFoundNoRoomGoesAgainFirst) {
  Noted s(in.cache, {.all = 8, .background = 8, .demand_is_apart = false}, 3'600'000);
  s.refuse = 2;
  s.add("first", Rank::kDemand, 1);
  s.add("second", Rank::kDemand, 1);
  s.kick();
  EXPECT_EQ(s.counts().in_flight, 0u) << "who waits for room holds no connection";
  EXPECT_EQ(s.counts().queued, 2u);
  s.add("third", Rank::kDemand, 1);
  s.tick();
  EXPECT_EQ(s.started, (Names{"first", "second", "third"}));
}

TEST_F(FetchSchedulerTest, WhoWaitsTooLongForRoomIsTold) {
  Noted s(in.cache, {.all = 8, .background = 8, .demand_is_apart = false}, 0);
  s.refuse = 1;
  s.add("first", Rank::kDemand, 1);
  s.kick();
  EXPECT_TRUE(s.given_up.empty());
  s.tick();
  EXPECT_EQ(s.given_up, Names{"first"});
  EXPECT_EQ(s.error, ENOSPC);
  EXPECT_TRUE(s.started.empty());
}

TEST_F(FetchSchedulerTest, BackgroundWorkThatFoundTheCacheFullGoesAgainForAReader) {
  Noted s(in.cache, {.all = 1, .background = 1, .demand_is_apart = false});
  auto f = s.add("file", Rank::kAhead);
  s.kick();
  s.demand(f);
  s.end(make_error(ENOSPC, "full"));
  EXPECT_EQ(s.started, (Names{"file behind", "file"}));
  s.end(make_error(ENOSPC, "full"));
  EXPECT_EQ(s.started.size(), 2u) << "and then no more";
}

// One store that hangs is its own dataset's trouble.
TEST_F(FetchSchedulerTest, ADatasetThatHasEveryConnectionLeavesAnEighthToEachOther) {
  Noted s(in.cache, {.all = 16, .background = 16, .demand_is_apart = false});
  for (int i = 0; i < 40; ++i)
    s.add("a", Rank::kDemand, 1, 1);
  s.kick();
  EXPECT_EQ(s.started.size(), 16u) << "alone it has all of them";
  for (int i = 0; i < 3; ++i)
    s.add("b", Rank::kDemand, 1, 2);
  s.add("c", Rank::kDemand, 1, 3);
  s.kick();
  EXPECT_EQ(Names(s.started.begin() + 16, s.started.end()), (Names{"b", "c", "b"}));
  s.end();
  EXPECT_EQ(s.started.size(), 19u) << "no more than that";
}

TEST_F(FetchSchedulerTest, WhatHangsDoesNotCountAgainstOthersAndDoesAgainstItself) {
  Noted s(in.cache, {.all = 16, .background = 16, .demand_is_apart = false});
  for (int i = 0; i < 40; ++i)
    s.add("a", Rank::kDemand, 1, 1);
  s.kick();
  s.hang(1);
  EXPECT_EQ(s.started.size(), 16u);
  for (int i = 0; i < 40; ++i)
    s.add("b", Rank::kDemand, 1, 2);
  s.kick();
  EXPECT_EQ(s.started.size(), 32u) << "the other one has all of them, too";
}

TEST_F(FetchSchedulerTest, WhoHasTheFewestGoesNext) {
  Noted s(in.cache, {.all = 4, .background = 4, .demand_is_apart = false});
  for (int i = 0; i < 4; ++i)
    s.add("a", Rank::kDemand, 1, 1);
  for (int i = 0; i < 4; ++i)
    s.add("b", Rank::kDemand, 1, 2);
  s.kick();
  EXPECT_EQ(s.started, (Names{"a", "b", "a", "b"})) << "though all of a's came first";
}

TEST_F(FetchSchedulerTest, AFillThatHangsLeavesConnectionsToTheNext) {
  Noted s(in.cache, {.all = 16, .background = 8, .demand_is_apart = true});
  for (int i = 0; i < 20; ++i)
    s.add_fill("a", 1);
  s.kick();
  EXPECT_EQ(s.started.size(), 8u);
  s.add_fill("b", 2);
  s.add_fill("b", 2);
  s.kick();
  EXPECT_EQ(s.started.size(), 9u) << "an eighth";
  s.hang(1);
  EXPECT_EQ(s.started.size(), 10u);
}

TEST_F(FetchSchedulerTest, TheEndTellsWhoeverWaitsAndWaitsForWhatIsUnderWay) {
  Noted s(in.cache, {.all = 1, .background = 1, .demand_is_apart = false});
  s.add("running", Rank::kDemand, 1);
  s.kick();
  s.add("queued", Rank::kDemand, 1);
  s.add("ahead", Rank::kAhead);
  EXPECT_FALSE(s.stop(std::chrono::milliseconds(0))) << "a store still has one";
  EXPECT_EQ(s.given_up, (Names{"queued", "ahead"}));
  EXPECT_EQ(s.error, ECANCELED);
  s.add("late", Rank::kDemand, 1);
  s.end();
  EXPECT_EQ(s.started, Names{"running"}) << "and nothing starts any more";
  EXPECT_TRUE(s.stop(std::chrono::milliseconds(0)));
}

}  // namespace
}  // namespace larder
