// Chunks that are fetched together: cached/fetch/chunk_fetcher.h.
#include "cached/fetch/chunk_fetcher.h"

#include "tests/cached/lazily.h"

namespace larder {
namespace {

using test::eventually;
using test::Lazily;

// Chunks of 256 KiB, eight a GET.
class ChunkFetcherTest : public test::LazyTest {
 protected:
  static constexpr uint64_t kChunk = 256 << 10;
  static constexpr uint32_t kJoined = 8;
  using Ranges = std::vector<std::pair<uint64_t, uint64_t>>;
  ChunkFetcherTest() : LazyTest({64 << 20, 0, 640 << 10}) {}

  // The range that the store is asked for: chunks [first, first + count).
  static std::pair<uint64_t, uint64_t> range(uint64_t first, uint64_t count = 1) {
    return {first * kChunk, count * kChunk};
  }
  Ranges asked() {
    std::lock_guard lock(out.bucket->mutex);
    return std::exchange(out.bucket->ranges, {});
  }
  void halt_at(uint64_t bytes, std::optional<Error> error = {}) {
    std::lock_guard lock(out.bucket->mutex);
    out.bucket->halt_at = bytes;
    out.bucket->halt_error = std::move(error);
  }
  LazyPtr begin(Lazily& in, size_t size) {
    all = body(size);
    out.bucket->put("big", all);
    d = in.mount();
    LazyPtr f = in.open(d, "big");
    EXPECT_EQ(f->chunk_length(0), kChunk);
    EXPECT_EQ(in.lazy.joined(*f), kJoined);
    return f;
  }
  void expect_right(const LazyPtr& f, uint32_t first, uint32_t count) {
    for (uint32_t i = first; i < first + count; ++i) {
      EXPECT_TRUE(f->present(i)) << i;
      EXPECT_TRUE(Lazily::bytes(*f, i) == all.substr(i * kChunk, kChunk)) << i;
    }
  }
  std::string all;
  std::shared_ptr<Dataset> d;
};

// Otherwise a random reader of 8 KiB rows fetches hundreds of times what it reads.
TEST_F(ChunkFetcherTest, ALoneChunkIsFetchedAlone) {
  Lazily in(out);
  LazyPtr f = begin(in, 100 * kChunk + 5000);
  ASSERT_TRUE(in.want(f, 42).ok());
  ASSERT_TRUE(in.want(f, 17).ok());
  ASSERT_TRUE(in.want(f, 100).ok());
  EXPECT_EQ(asked(), (Ranges{range(42), range(17), {100 * kChunk, 5000}}));
  expect_right(f, 42, 1);
  expect_right(f, 100, 1);
  EXPECT_EQ(f->present_chunks, 3u);
}

// Otherwise a sequential reader pays a request for every chunk.
TEST_F(ChunkFetcherTest, NeighboursThatAreWantedTogetherAreOneGet) {
  Lazily in(out);
  LazyPtr f = begin(in, 100 * kChunk);
  ASSERT_TRUE(in.want(f, 11, 15).ok());
  EXPECT_EQ(asked(), (Ranges{range(11, 5), range(16, 8), range(24, 2)})) << "a GET ends at a multiple of eight chunks";
  expect_right(f, 11, 15);
  ASSERT_TRUE(in.want(f, 9, 6).ok());
  EXPECT_EQ(asked(), (Ranges{range(9, 2)})) << "what is there is not fetched again";
}

TEST_F(ChunkFetcherTest, AChunkIsThereWhenItsOwnBytesAre) {
  Lazily in(out);
  LazyPtr f = begin(in, 100 * kChunk);
  halt_at(2 * kChunk + kChunk / 2);
  auto first = in.start(f, 40, 8, 1), third = in.start(f, 42, 1, 1);
  EXPECT_TRUE(in.wait(*first).ok());
  ASSERT_TRUE(eventually([&] { return f->present(41); }));
  expect_right(f, 40, 2);
  EXPECT_FALSE(f->present(42));
  EXPECT_FALSE(third->done());
  out.bucket->go_on();
  EXPECT_TRUE(in.wait(*third).ok());
  ASSERT_TRUE(eventually([&] { return f->run_of_present(40) >= 8; }));
  expect_right(f, 40, 8);
  EXPECT_EQ(asked(), (Ranges{range(40, 8)}));
}

TEST_F(ChunkFetcherTest, AFailureInTheMiddleKeepsWhatArrived) {
  Lazily in(out);
  LazyPtr f = begin(in, 100 * kChunk);
  halt_at(2 * kChunk + 70000, make_error(EIO, "the store went away"));
  Status s = in.want(f, 40, 8);
  ASSERT_FALSE(s.ok());
  EXPECT_EQ(s.error().code, EIO);
  expect_right(f, 40, 2);
  EXPECT_FALSE(f->present(42));
  EXPECT_EQ(Lazily::bytes(*f, 42), std::string(kChunk, '\0')) << "half a chunk is given back";
  EXPECT_EQ(in.cache.accounts_of(*d)->chunks.value(), 2 * kChunk);
  EXPECT_EQ(in.cache.accounts_of(*d)->reserved.value(), 0u) << "and the room of what did not come";
  out.bucket->go_on();
  ASSERT_TRUE(in.want(f, 40, 8).ok());
  EXPECT_EQ(asked(), (Ranges{range(40, 8), range(42, 6)}));
  expect_right(f, 40, 8);
}

TEST_F(ChunkFetcherTest, ABodyThatIsShortOrLongIsAnErrorAndNotPartOfAChunk) {
  Lazily in(out);
  LazyPtr f = begin(in, 8 * kChunk);
  out.bucket->cut_short = 100;
  Status s = in.want(f, 0, 8);
  ASSERT_FALSE(s.ok());
  EXPECT_EQ(s.error().code, EIO);
  expect_right(f, 0, 7);
  EXPECT_FALSE(f->present(7));
  EXPECT_EQ(Lazily::bytes(*f, 7), std::string(kChunk, '\0'));
}

// A waiting reader must not wait for chunks that were asked for earlier and are not under way.
TEST_F(ChunkFetcherTest, DemandTakesItsChunkOutOfAQueuedRange) {
  Lazily in(out, 1);
  LazyPtr f = begin(in, 100 * kChunk);
  out.bucket->set_open(false);
  auto other = in.start(f, 90, 1, 1);  // takes the only connection
  in.chunks.advise(f, 40, 16);
  auto wanted = in.start(f, 44, 1, 1);
  EXPECT_EQ(asked(), Ranges{range(90)});
  out.bucket->set_open(true);
  EXPECT_TRUE(in.wait(*other).ok());
  EXPECT_TRUE(in.wait(*wanted).ok());
  ASSERT_TRUE(eventually([&] { return f->run_of_present(40) >= 16; }));
  EXPECT_EQ(asked(), (Ranges{range(44, 4), range(40, 4), range(48, 8)})) << "with the neighbours behind it";
  expect_right(f, 40, 16);
}

TEST_F(ChunkFetcherTest, AChunkUnderWayIsNotAskedForAgain) {
  Lazily in(out);
  LazyPtr f = begin(in, 100 * kChunk);
  halt_at(kChunk);
  in.chunks.advise(f, 40, 8);
  auto wanted = in.start(f, 46, 1, 1);
  EXPECT_FALSE(wanted->done());
  out.bucket->go_on();
  EXPECT_TRUE(in.wait(*wanted).ok());
  EXPECT_EQ(asked(), (Ranges{range(40, 8)}));
  EXPECT_EQ(out.bucket->hurried, std::vector<std::string>{"big"}) << "it went as background work";
}

TEST_F(ChunkFetcherTest, WhoCancelledIsNotToldAndTheOthersAre) {
  Lazily in(out);
  LazyPtr f = begin(in, 100 * kChunk);
  halt_at(kChunk / 2);
  auto gone = in.start(f, 40, 8, 8), stays = in.start(f, 47, 1, 1);
  in.chunks.cancel(gone->ticket);
  out.bucket->go_on();
  EXPECT_TRUE(in.wait(*stays).ok());
  EXPECT_FALSE(gone->done());
  ASSERT_TRUE(eventually([&] { return f->run_of_present(40) >= 8; }));
  expect_right(f, 40, 8);
}

// A chunk that is evicted while the GET that brought it goes on comes by another GET; arriving chunks are not touched.
TEST_F(ChunkFetcherTest, EvictionInBetweenTakesWhatIsThereAlone) {
  Lazily in(out);
  LazyPtr f = begin(in, 100 * kChunk);
  halt_at(2 * kChunk + kChunk / 2);
  auto wanted = in.start(f, 40, 8, 8);
  ASSERT_TRUE(eventually([&] { return f->present(41); }));
  ASSERT_EQ(in.cache.evict(*d, "big").bytes, 2 * kChunk);
  out.bucket->go_on();
  EXPECT_TRUE(in.wait(*wanted).ok());
  expect_right(f, 42, 6);
  EXPECT_FALSE(f->present(40));
  ASSERT_TRUE(in.want(f, 40, 2).ok());
  expect_right(f, 40, 8);
  EXPECT_EQ(asked(), (Ranges{range(40, 8), range(40, 2)}));
}

TEST_F(ChunkFetcherTest, AnObjectThatChangesIsStaleForAllOfTheRange) {
  Lazily in(out);
  LazyPtr f = begin(in, 100 * kChunk);
  std::atomic<int> told{0};
  in.chunks.on_stale([&](auto, auto) { ++told; });
  out.bucket->put("big", body(100 * kChunk, 2));
  auto first = in.start(f, 40, 8, 1), last = in.start(f, 47, 1, 1);
  for (auto& w : {first, last}) {
    Status s = in.wait(*w);
    ASSERT_FALSE(s.ok());
    EXPECT_EQ(s.error().code, ESTALE);
  }
  EXPECT_GE(told, 1);
  EXPECT_EQ(f->present_chunks, 0u);
}

// A GET of a version that is gone ends early.
TEST_F(ChunkFetcherTest, AnObjectThatIsDroppedEndsItsGet) {
  Lazily in(out);
  LazyPtr f = begin(in, 100 * kChunk);
  halt_at(kChunk + kChunk / 2);
  auto first = in.start(f, 40, 8, 1), last = in.start(f, 47, 1, 1);
  ASSERT_TRUE(in.wait(*first).ok());
  std::string next = body(100 * kChunk, 2);
  out.bucket->put("big", next);
  ASSERT_TRUE(in.datasets.refresh(d->def.name, {}).ok());
  out.bucket->go_on();
  Status s = in.wait(*last);
  ASSERT_FALSE(s.ok());
  EXPECT_EQ(s.error().code, ESTALE);
  EXPECT_TRUE(eventually([&] {
    return in.cache.accounts_of(*d)->reserved.value() == 0 && in.cache.accounts_of(*d)->chunks.value() == 0;
  }));
  struct stat st;
  ASSERT_EQ(::fstat(f->data_fd(), &st), 0);
  EXPECT_EQ(st.st_blocks, 0) << "what had begun to arrive is given back";
}

// There is room for a part of the range: that part comes now, the rest when there is room.
TEST_F(ChunkFetcherTest, ARangeIsCutWhereTheRoomEnds) {
  Lazily in(out, 8, 20'000);
  LazyPtr f = begin(in, 100 * kChunk);
  const Object o = in.object(d, "big");
  std::vector<Room> others;
  for (;;) {
    Result<Room> room = in.cache.admit_chunk(o, kChunk, true);
    if (!room) break;
    others.push_back(std::move(*room));
  }
  others.resize(others.size() - 3);
  auto wanted = in.start(f, 40, 8, 8);
  ASSERT_TRUE(eventually([&] { return f->present(42); }));
  EXPECT_EQ(asked(), (Ranges{range(40, 3)}));
  others.clear();
  EXPECT_TRUE(in.wait(*wanted).ok());
  EXPECT_EQ(asked(), (Ranges{range(43, 5)}));
  expect_right(f, 40, 8);
}

TEST_F(ChunkFetcherTest, WhoGetsNoRoomIsToldInTheEnd) {
  Lazily in(out);
  LazyPtr f = begin(in, 100 * kChunk);
  std::vector<Room> others;
  for (;;) {
    Result<Room> room = in.cache.admit_chunk(in.object(d, "big"), kChunk, true);
    if (!room) break;
    others.push_back(std::move(*room));
  }
  Status s = in.want(f, 40, 8);
  ASSERT_FALSE(s.ok());
  EXPECT_EQ(s.error().code, EIO);
  EXPECT_EQ(out.bucket->get_count(), 0u);
}

TEST_F(ChunkFetcherTest, AWholeObjectIsFetchedByLargeGets) {
  Lazily in(out);
  LazyPtr f = begin(in, 19 * kChunk + 77);
  ASSERT_TRUE(in.want(f, 10).ok());
  EXPECT_TRUE(in.read(d, "big") == all);
  Ranges gets = asked();
  std::sort(gets.begin(), gets.end());
  EXPECT_EQ(gets, (Ranges{range(0, 8), range(8, 2), range(10), range(11, 5), {16 * kChunk, 3 * kChunk + 77}}));
  EXPECT_EQ(in.state(d, "big"), kResident);
}

// A program reads while fill runs: each byte comes once, and the reader's chunk comes next.
TEST_F(ChunkFetcherTest, FillAndReadersShareTheirGets) {
  Lazily in(out, 2);
  LazyPtr f = begin(in, 64 * kChunk);
  out.bucket->set_open(false);
  std::thread whole([&] { EXPECT_TRUE(in.read(d, "big") == all); });
  ASSERT_TRUE(eventually([&] { return out.bucket->get_count() >= 1; }));
  auto reader = in.start(f, 50, 1, 1);
  out.bucket->set_open(true);
  EXPECT_TRUE(in.wait(*reader).ok());
  whole.join();
  uint64_t bytes = 0;
  for (auto& [at, length] : asked())
    bytes += length;
  EXPECT_EQ(bytes, all.size());
}

// Absent chunks must not take much memory: four bytes a chunk, in the cache.
TEST_F(ChunkFetcherTest, ChunksOfAHugeObjectAreLarger) {
  Lazily in(out);
  all = body(kChunk);
  out.bucket->put("huge", all);
  out.bucket->objects["huge"].size = 200ull << 30;
  d = in.mount();
  const uint64_t before = in.meter;
  LazyPtr f = in.open(d, "huge");
  EXPECT_GT(f->map().chunk_shift, 18u);
  EXPECT_LE(in.meter - before, out.limits.cache_size / 64 + 4096);
  EXPECT_EQ(f->chunk_count(), (200ull << 30) >> f->map().chunk_shift);
}

}  // namespace
}  // namespace larder
