#include "cached/cache/chunk_store.h"

#include "cached/cache/scrubber.h"
#include "tests/cached/lazily.h"

namespace larder {
namespace {

using test::Lazily;

class Lazy : public test::LazyTest {
 protected:
  static constexpr size_t kChunk = 64 << 10;
  Lazy() : LazyTest({2 << 20, 0, 64 << 10}) {}
};

TEST_F(Lazy, ToTheKernelAHandleIsADirectoryThatNobodyReads) {
  out.bucket->put("big", body(10 * kChunk));
  Lazily in(out);
  auto d = in.mount();
  LazyPtr f = in.open(d, "big");
  Result<Fd> h = in.dir->open_for_program(handle_path(d->id(), f->object.oid));
  ASSERT_TRUE(h.ok());
  EXPECT_EQ(in.state(d, "big"), kLazy);
  char c;
  EXPECT_EQ(::read(h->get(), &c, 1), -1);
  EXPECT_EQ(errno, EISDIR);
  EXPECT_EQ(::pread(h->get(), &c, 1, 0), -1);
  EXPECT_EQ(errno, EISDIR);
  EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, h->get(), 0), MAP_FAILED);
  EXPECT_EQ(errno, ENODEV);
  Fd again(::open(fmt::format("/proc/self/fd/{}", h->get()).c_str(), O_RDONLY));  // also for root, also opened anew
  ASSERT_TRUE(again.valid());
  EXPECT_EQ(::read(again.get(), &c, 1), -1);
  EXPECT_EQ(errno, EISDIR);
  EXPECT_EQ(::lseek(h->get(), 123456789, SEEK_SET), 123456789) << "its position is the file's";
}

// How large an object is, the store alone says.
TEST_F(Lazy, ASizeThatAStoreInventsTakesNoRoom) {
  for (uint64_t shift : {62, 50, 40, 34}) {
    out.bucket->put(fmt::format("huge{}", shift), "x");
    out.bucket->objects[fmt::format("huge{}", shift)].size = uint64_t{1} << shift;
  }
  for (int i = 0; i < 20; ++i) {
    out.bucket->put(fmt::format("large{}", i), "x");
    out.bucket->objects[fmt::format("large{}", i)].size = uint64_t{1} << 30;
  }
  Lazily in(out);
  auto d = in.mount();
  const uint64_t before = in.cache.usage().used;
  for (uint64_t shift : {62, 50, 40, 34}) {
    Result<LazyPtr> f = in.lazy.open(in.object(d, fmt::format("huge{}", shift)));
    EXPECT_TRUE(!f && f.error().code == EFBIG) << shift;
  }
  EXPECT_EQ(in.cache.usage().used, before);
  int opened = 0;
  for (int i = 0; i < 20; ++i) {
    Result<LazyPtr> f = in.lazy.open(in.object(d, fmt::format("large{}", i)));
    opened += f.ok();
    EXPECT_TRUE(f.ok() || f.error().code == ENOSPC);
  }
  EXPECT_GT(opened, 0);
  EXPECT_LE(in.cache.usage().used, before + out.limits.cache_size / 4);
}

TEST_F(Lazy, OneChunkIsOneGetAndTheRestStaysAbsent) {
  std::string all = body(10 * kChunk + 77);
  out.bucket->put("big", all);
  Lazily in(out);
  auto d = in.mount();
  LazyPtr f = in.open(d, "big");
  ASSERT_EQ(f->chunk_count(), 11u);
  ASSERT_TRUE(in.want(f, 5).ok());
  EXPECT_EQ(in.bytes(*f, 5), all.substr(5 * kChunk, kChunk));
  ASSERT_TRUE(in.want(f, 10).ok());
  EXPECT_EQ(in.bytes(*f, 10), all.substr(10 * kChunk));
  ASSERT_TRUE(in.want(f, 5).ok());
  EXPECT_EQ(out.bucket->get_count(), 2u);
  for (uint32_t i = 0; i < 11; ++i)
    EXPECT_EQ(f->present(i), i == 5 || i == 10) << i;
}

TEST_F(Lazy, ManyWaitersOfAChunkCauseOneGet) {
  out.bucket->put("big", body(10 * kChunk));
  Lazily in(out);
  auto d = in.mount();
  LazyPtr f = in.open(d, "big");
  out.bucket->set_open(false);
  std::atomic<int> done{0};
  for (int i = 0; i < 50; ++i)
    in.chunks.want(f, 3, 1, 1, [&](const Status& s) { done += s.ok(); });
  out.bucket->set_open(true);
  EXPECT_TRUE(test::eventually([&] { return done == 50; }));
  EXPECT_EQ(out.bucket->get_count(), 1u);
}

TEST_F(Lazy, WhatHasAllItsChunksBecomesAnOrdinaryFile) {
  std::string all = body(12 * kChunk + 5);
  out.bucket->put("big", all);
  Lazily in(out);
  auto d = in.mount();
  LazyPtr f = in.open(d, "big");
  uint64_t handle = f->handle_inode();
  ASSERT_TRUE(in.want(f, 4).ok());
  EXPECT_EQ(in.read(d, "big"), all);
  EXPECT_EQ(in.state(d, "big"), kResident);
  EXPECT_TRUE(f->is_whole());
  EXPECT_EQ(out.bucket->get_count(), 13u) << "no chunk twice";
  CheckCounts counts;
  ASSERT_TRUE(verify(in.cache, d, "", counts, [](auto&) { return true; }).ok());
  EXPECT_EQ(counts.files, 1u);
  EXPECT_TRUE(counts.corrupt.empty()) << "its checksum was written with it";
  Result<LazyPtr> same = in.lazy.find(handle);
  ASSERT_TRUE(same.ok()) << "who has the handle open goes on";
  EXPECT_EQ(*same, f);
}

TEST_F(Lazy, AWholeOneThatWasEvictedComesAgainUnderItsHandle) {
  std::string all = body(8 * kChunk);
  out.bucket->put("big", all);
  Lazily in(out);
  auto d = in.mount();
  uint64_t handle = in.open(d, "big")->handle_inode();
  ASSERT_EQ(in.read(d, "big"), all);
  ASSERT_EQ(in.cache.evict(*d, "big").files, 1u);
  Result<LazyPtr> again = in.lazy.find(handle);
  ASSERT_TRUE(again.ok());
  EXPECT_FALSE((*again)->is_whole());
  EXPECT_EQ((*again)->handle_inode(), handle);
  EXPECT_EQ(in.state(d, "big"), kLazy);
  ASSERT_TRUE(in.want(*again, 2).ok());
  EXPECT_EQ(in.bytes(**again, 2), all.substr(2 * kChunk, kChunk));
}

// S15: An object larger than the cache streams through it. cache_size is checked after every chunk.
TEST_F(Lazy, AnObjectLargerThanTheCacheStreamsThroughIt) {
  std::string all = body(100 * kChunk + 1);
  out.bucket->put("huge", all);
  Lazily in(out);
  auto d = in.mount();
  LazyPtr f = in.open(d, "huge");
  for (uint32_t i = 0; i < f->chunk_count(); ++i) {
    std::string got;
    for (int attempt = 0; attempt < 20 && got != all.substr(i * kChunk, kChunk);
         ++attempt) {  // read ahead may push it out again
      ASSERT_TRUE(in.want(f, i).ok()) << i;
      got = in.bytes(*f, i);
    }
    ASSERT_EQ(got, all.substr(i * kChunk, kChunk)) << i;
    ASSERT_LE(on_tmpfs(), out.limits.cache_size + (64 << 10))
        << i;  // folders and the inode of each file are not in st_blocks
    ASSERT_LE(in.cache.usage().used, out.limits.cache_size);
  }
}

// keep: the first chunks stay, so that every epoch of random reads hits c of N.
TEST_F(Lazy, KeepsItsPartOfAnObjectThatDoesNotFit) {
  constexpr uint32_t kChunks = 60;
  out.bucket->put("huge", body(kChunks * kChunk));
  Lazily in(out);
  auto d = in.mount();
  LazyPtr f = in.open(d, "huge");
  std::mt19937 rng(3);
  std::vector<uint32_t> order(kChunks);
  for (uint32_t i = 0; i < kChunks; ++i)
    order[i] = i;
  uint64_t hits = 0, kept = 0;
  for (int epoch = 0; epoch < 5; ++epoch) {
    std::shuffle(order.begin(), order.end(), rng);
    for (uint32_t i : order) {
      hits += epoch > 0 && f->present(i);
      ASSERT_TRUE(in.want(f, i).ok());
    }
    if (epoch == 0) kept = f->present_chunks;
  }
  // The staging share (a quarter here: 8 of 32 chunks) gives no hits.
  EXPECT_GE(hits, 4 * (kept - 9));
}

// The reader's protocol (word, read, word) against eviction at every point between its steps, and against what comes
// after: a chunk that was fetched again, or whose place holds something else.
TEST_F(Lazy, AReaderNeverTakesWhatWasEvictedUnderIt) {
  std::string all = body(4 * kChunk);
  out.bucket->put("big", all);
  Lazily in(out);
  auto d = in.mount();
  LazyPtr f = in.open(d, "big");
  std::string poison(kChunk, '\xdb');
  enum Event { kNothing, kEvict, kEvictPoison, kEvictRefetch };
  for (int point = 0; point < 4; ++point) {
    for (Event event : {kNothing, kEvict, kEvictPoison, kEvictRefetch}) {
      ASSERT_TRUE(in.want(f, 1).ok());
      auto at = [&](int here) {
        if (here != point || event == kNothing) return;
        in.cache.evict(*d, "big");
        if (event == kEvictPoison) {
          ASSERT_EQ(::pwrite(f->data_fd(), poison.data(), kChunk, kChunk), static_cast<ssize_t>(kChunk));
        }
        if (event == kEvictRefetch) {
          ASSERT_TRUE(in.want(f, 1).ok());
        }
      };
      at(0);
      uint32_t before = f->map().words[1].load(std::memory_order_acquire);
      at(1);
      std::string got = in.bytes(*f, 1);
      at(2);
      uint32_t after = f->map().words[1].load(std::memory_order_acquire);
      at(3);
      bool accepted = (before & kChunkPresent) && same_chunk(before, after);
      if (accepted) {
        EXPECT_EQ(got, all.substr(kChunk, kChunk)) << "point " << point << " event " << event;
      }
      EXPECT_EQ(accepted, event == kNothing || point == 3 || (point == 0 && event == kEvictRefetch))
          << "point " << point << " event " << event;
      in.cache.evict(*d, "big");
    }
  }
}

TEST_F(Lazy, AChangedObjectIsStaleAndTheNewOneIsAnother) {
  out.bucket->put("big", body(10 * kChunk, 1));
  Lazily in(out);
  auto d = in.mount();
  LazyPtr f = in.open(d, "big");
  ASSERT_TRUE(in.want(f, 0).ok());
  std::string next = body(10 * kChunk, 2);
  out.bucket->put("big", next);
  Status s = in.want(f, 7);
  ASSERT_FALSE(s.ok());
  EXPECT_EQ(s.error().code, ESTALE);
  ASSERT_TRUE(in.datasets.refresh(d->def.name, {}).ok());
  Result<LazyPtr> gone = in.lazy.find(f->handle_inode());
  ASSERT_FALSE(gone.ok());
  EXPECT_EQ(gone.error().code, ESTALE);
  LazyPtr g = in.open(d, "big");
  EXPECT_NE(g->handle_inode(), f->handle_inode());
  ASSERT_TRUE(in.want(g, 7).ok());
  EXPECT_EQ(in.bytes(*g, 7), next.substr(7 * kChunk, kChunk));
}

TEST_F(Lazy, ARefreshThatLeavesItAloneKeepsItsChunks) {
  out.bucket->put("big", body(10 * kChunk));
  Lazily in(out);
  auto d = in.mount();
  LazyPtr f = in.open(d, "big");
  ASSERT_TRUE(in.want(f, 6).ok());
  out.bucket->put("other", "new");
  ASSERT_TRUE(in.datasets.refresh(d->def.name, {}).ok());
  EXPECT_EQ(in.state(d, "big"), kLazy);
  EXPECT_TRUE(f->present(6));
  EXPECT_EQ(in.open(d, "big"), f);
}

TEST_F(Lazy, TheNextDaemonTakesOverWhatIsThere) {
  std::string all = body(10 * kChunk);
  out.bucket->put("big", all);
  uint64_t handle;
  {
    Lazily in(out);
    auto d = in.mount();
    LazyPtr f = in.open(d, "big");
    handle = f->handle_inode();
    ASSERT_TRUE(in.want(f, 2, 3).ok());
    // As if larderd had died in the middle of chunk 7: its bytes are there, its word is not set.
    ASSERT_EQ(::pwrite(f->data_fd(), all.data(), 5000, 7 * kChunk), 5000);
  }
  uint64_t gets = out.bucket->get_count();
  Lazily in(out);
  auto d = in.mount();
  Result<LazyPtr> f = in.lazy.find(handle);
  ASSERT_TRUE(f.ok());
  EXPECT_EQ(in.state(d, "big"), kLazy);
  for (uint32_t i : {2u, 3u, 4u})
    EXPECT_EQ(in.bytes(**f, i), all.substr(i * kChunk, kChunk)) << i;
  EXPECT_EQ(in.bytes(**f, 7), std::string(kChunk, '\0')) << "given back";
  ASSERT_TRUE(in.want(*f, 3).ok());
  EXPECT_EQ(out.bucket->get_count(), gets);
  struct stat st;
  ASSERT_EQ(::fstat((*f)->data_fd(), &st), 0);
  EXPECT_EQ(st.st_blocks * 512ull, (*f)->present_bytes);
}

// After a restart: a program that has the handle of an object open that had become whole reads on, even when the object
// is evicted afterwards.
TEST_F(Lazy, TheNextDaemonKnowsTheHandlesOfWholeOnes) {
  std::string all = body(8 * kChunk);
  out.bucket->put("big", all);
  uint64_t handle;
  std::string data;
  {
    Lazily in(out);
    auto d = in.mount();
    LazyPtr f = in.open(d, "big");
    handle = f->handle_inode();
    data = fmt::format("{}/chunks/{:016x}/{:016x}", out.config.cache_dir, d->id(), handle);
    ASSERT_EQ(in.read(d, "big"), all);
    ASSERT_TRUE(f->is_whole());
  }
  Lazily in(out);
  auto d = in.mount();
  EXPECT_EQ(in.state(d, "big"), kResident);
  Result<LazyPtr> f = in.lazy.find(handle);
  ASSERT_TRUE(f.ok());
  const uint64_t gets = out.bucket->get_count();
  EXPECT_EQ(in.read(d, "big"), all);
  EXPECT_EQ(out.bucket->get_count(), gets);
  ASSERT_EQ(in.cache.evict(*d, "big").files, 1u);
  Result<LazyPtr> again = in.lazy.find(handle);
  ASSERT_TRUE(again.ok());
  ASSERT_TRUE(in.want(*again, 2).ok());
  EXPECT_EQ(in.bytes(**again, 2), all.substr(2 * kChunk, kChunk));
  EXPECT_EQ(in.cache.accounts_of(*d)->chunks.value(), (*again)->present_bytes);
}

TEST_F(Lazy, ADamagedMapIsNotTakenOver) {
  out.bucket->put("big", body(10 * kChunk));
  std::string map;
  {
    Lazily in(out);
    auto d = in.mount();
    LazyPtr f = in.open(d, "big");
    ASSERT_TRUE(in.want(f, 2).ok());
    map = fmt::format("{}/{:016x}/l/{:016x}.map", out.config.cache_dir, d->id(), f->handle_inode());
  }
  std::filesystem::permissions(map, std::filesystem::perms::owner_all);
  ASSERT_EQ(::truncate(map.c_str(), 100), 0);
  std::filesystem::permissions(map, std::filesystem::perms::owner_read);
  Lazily in(out);
  auto d = in.mount();
  EXPECT_EQ(in.state(d, "big"), kAbsent);
  EXPECT_FALSE(std::filesystem::exists(map));
  LazyPtr f = in.open(d, "big");
  EXPECT_TRUE(in.want(f, 2).ok());
}

TEST_F(Lazy, SmallFilesFindRoomAmongChunks) {
  out.bucket->put("huge", body(60 * kChunk));
  for (int i = 0; i < 30; ++i)
    out.bucket->put(fmt::format("small/{}", i), std::string(8000, static_cast<char>('a' + i % 26)));
  Lazily in(out);
  auto d = in.mount();
  LazyPtr f = in.open(d, "huge");
  for (uint32_t i = 0; i < 60; ++i)
    ASSERT_TRUE(in.want(f, i).ok());
  for (int i = 0; i < 30; ++i)
    ASSERT_EQ(in.read(d, fmt::format("small/{}", i)), std::string(8000, static_cast<char>('a' + i % 26))) << i;
  EXPECT_LE(in.cache.usage().used, out.limits.cache_size);
}

TEST_F(Lazy, ACorruptChunkIsFoundAndDropped) {
  out.bucket->put("big", body(10 * kChunk));
  Lazily in(out);
  auto d = in.mount();
  LazyPtr f = in.open(d, "big");
  ASSERT_TRUE(in.want(f, 2, 3).ok());
  ASSERT_EQ(::pwrite(f->data_fd(), "!", 1, 3 * kChunk + 17), 1);
  CheckCounts counts;
  ASSERT_TRUE(verify(in.cache, d, "", counts, [](auto&) { return true; }).ok());
  EXPECT_EQ(counts.bytes, 3 * kChunk);
  ASSERT_EQ(counts.corrupt.size(), 1u);
  EXPECT_EQ(counts.corrupt[0].second, "big");
  EXPECT_TRUE(f->present(2));
  EXPECT_FALSE(f->present(3));
}

// A quota of a dataset: chunks beyond it push out the dataset's own chunks, nobody else's.
TEST_F(Lazy, AQuotaHoldsForChunks) {
  std::string all = body(60 * kChunk);
  out.bucket->put("huge", all);
  Lazily in(out);
  auto other = in.mount("/data/other");
  LazyPtr theirs = in.open(other, "huge");
  ASSERT_TRUE(in.want(theirs, 0, 10).ok());
  const uint32_t there = theirs->present_chunks;
  auto d = in.mount("/data/x");
  const uint64_t quota = 8 * kChunk;
  in.cache.configure(*d, {}, quota);
  LazyPtr f = in.open(d, "huge");
  const uint64_t chunk = f->chunk_length(0);
  for (int epoch = 0; epoch < 2; ++epoch)
    for (uint32_t i = 0; i < f->chunk_count(); ++i) {
      std::string got;
      for (int attempt = 0; attempt < 20 && got != all.substr(i * chunk, chunk); ++attempt) {
        ASSERT_TRUE(in.want(f, i).ok()) << i;
        got = in.bytes(*f, i);
      }
      ASSERT_EQ(got, all.substr(i * chunk, chunk)) << i;
      ASSERT_LE(in.cache.accounts_of(*d)->chunks.value(), quota);
    }
  EXPECT_GT(in.cache.accounts_of(*d)->chunks.value(), quota / 2);
  EXPECT_GE(theirs->present_chunks, there);
  EXPECT_EQ(in.cache.accounts_of(*d)->chunks.value(), f->present_bytes);
  in.cache.configure(*d, {}, 2 * kChunk);
  EXPECT_TRUE(test::eventually([&] {  // at once, but for what was on its way
    in.cache.keep_limits();
    return in.cache.accounts_of(*d)->chunks.value() <= 2 * kChunk;
  }));
}

TEST_F(Lazy, PinnedChunksStayWhileOthersStream) {
  out.bucket->put("pinned", body(12 * kChunk, 1));
  out.bucket->put("huge", body(100 * kChunk, 2));
  Lazily in(out);
  auto d = in.mount();
  LazyPtr huge = in.open(d, "huge");
  for (uint32_t i = 0; i < huge->chunk_count(); ++i)
    ASSERT_TRUE(in.want(huge, i).ok());  // full
  LazyPtr f = in.open(d, "pinned");
  ASSERT_TRUE(in.want(f, 3).ok());  // staged: to go with the next few
  ASSERT_TRUE(in.cache.pin(*d, {"pinned"}).ok());
  EXPECT_FALSE(in.cache.pin(*d, {"huge"}).ok()) << "it never fits";
  for (uint32_t i = 0; i < 6; ++i)
    ASSERT_TRUE(in.want(f, i).ok());
  for (uint32_t i = 0; i < huge->chunk_count(); ++i)
    ASSERT_TRUE(in.want(huge, i).ok());
  for (uint32_t i = 0; i < 6; ++i)
    EXPECT_TRUE(f->present(i)) << i;
  EXPECT_EQ(in.cache.evict(*d, "pinned").pinned, 1u);
  ASSERT_TRUE(in.cache.unpin(*d, "pinned").ok());
  EXPECT_EQ(in.cache.evict(*d, "pinned").files, 1u);
  EXPECT_EQ(f->present_chunks, 0u);
  in.cache.evict(*d, "");
  EXPECT_EQ(in.cache.accounts_of(*d)->chunks.value(), 0u);
  EXPECT_EQ(in.cache.accounts_of(*d)->staged_chunks.value(), 0u);
  EXPECT_EQ(in.cache.budget().total().staged_chunks.value(), 0u);
}

TEST_F(Lazy, WhatIsLargerThanTheCacheCannotBeWhole) {
  out.bucket->put("huge", body(60 * kChunk));
  Lazily in(out);
  auto d = in.mount();
  EXPECT_EQ(in.read(d, "huge"), "errno 27");  // EFBIG
}

// S20: An object without an etag (some `http://` manifests) cannot be read in parts: it must fit the cache.
TEST_F(Lazy, WithoutAnEtagRangesMayBeOfTwoVersions) {
  out.bucket->put("big", body(10 * kChunk), "-");
  out.bucket->objects["big"].etag = "";
  Lazily in(out);
  auto d = in.mount();
  EXPECT_FALSE(in.lazy.wants(in.object(d, "big")));
}

}  // namespace
}  // namespace larder
