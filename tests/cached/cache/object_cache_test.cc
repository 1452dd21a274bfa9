#include "cached/cache/object_cache.h"

#include <fstream>
#include <random>

#include "cached/cache/scrubber.h"
#include "larder/names.h"
#include "tests/cached/fakes.h"

namespace larder {
namespace {

using test::Inside;
using test::must;
using test::Outside;

class Cache : public ::testing::Test {
 protected:
  // n objects of 8 KiB each: two pages on disk.
  void fill_bucket(int n, int size = 8192) {
    for (int i = 0; i < n; ++i)
      out.bucket->put(name(i), std::string(static_cast<size_t>(size), static_cast<char>('a' + i % 26)) + "");
  }
  static std::string name(int i) { return fmt::format("d{}/f{:04}", i % 4, i); }
  std::string folder(const std::shared_ptr<Dataset>& d) {
    return fmt::format("{}/{:016x}", out.config.cache_dir, d->id());
  }
  // Bytes of cache files on disk.
  uint64_t on_tmpfs(const std::shared_ptr<Dataset>& d) {
    uint64_t sum = 0;
    for (auto& e : std::filesystem::directory_iterator(folder(d)))
      if (e.path().filename().string().size() == 32) sum += on_disk(e.file_size());
    return sum;
  }
  Outside out;
};

TEST_F(Cache, AFetchedFileIsWholeReadOnlyDatedAndKnown) {
  out.bucket->put("a/b", "hello");
  Inside in(out);
  auto d = in.mount();
  EXPECT_EQ(in.state(d, "a/b"), kAbsent);
  Object o = in.object(d, "a/b");
  auto [body, fd] = in.fetch(o);
  EXPECT_EQ(body, "hello");
  EXPECT_EQ(in.state(d, "a/b"), kResident);
  struct stat st;
  ASSERT_EQ(::fstat(fd->get(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0444u);
  EXPECT_EQ(st.st_mtim.tv_sec, 1);
  char hex[33];
  object_name(o.oid, hex);
  EXPECT_TRUE(std::filesystem::exists(folder(d) + "/" + hex));
  EXPECT_EQ(in.read(d, "a/b"), "hello");
  EXPECT_EQ(out.bucket->get_count(), 1u);
}

// cache_size holds; a full cache keeps its files and recycles a small share.
TEST_F(Cache, KeepsWhatItHasAndRecyclesTheRest) {
  fill_bucket(400);
  out.limits = {3 << 20, 0, 64 << 10};
  Inside in(out);
  auto d = in.mount();
  std::vector<int> order(400);
  for (int i = 0; i < 400; ++i)
    order[static_cast<size_t>(i)] = i;
  uint64_t room = (out.limits.cache_size - in.cache.usage().used) / 8192;
  for (int epoch = 0; epoch < 3; ++epoch) {
    std::shuffle(order.begin(), order.end(), std::mt19937(static_cast<unsigned>(epoch)));
    uint64_t before = out.bucket->get_count();
    for (int i : order) {
      ASSERT_EQ(in.read(d, name(i)).size(), 8192u);
      ASSERT_LE(in.cache.usage().used, out.limits.cache_size);
    }
    EXPECT_EQ(on_tmpfs(d), in.cache.usage_of(*d).bytes);
    uint64_t hits = 400 - (out.bucket->get_count() - before);
    if (epoch > 0) {
      EXPECT_GE(hits + 16, room);
      EXPECT_LE(hits, room);
    }
  }
  EXPECT_LE(in.cache.usage().staging, 64u << 10);
}

TEST_F(Cache, AFileInUseIsNeverEvicted) {
  fill_bucket(3);
  Inside in(out);
  auto d = in.mount();
  auto [body, fd] = in.fetch(in.object(d, name(0)));
  in.read(d, name(1));
  void* map;
  {
    auto [body2, fd2] = in.fetch(in.object(d, name(2)));
    map = ::mmap(nullptr, 8192, PROT_READ, MAP_SHARED, fd2->get(), 0);
  }
  EvictCounts c = in.cache.evict(*d, "");
  EXPECT_EQ(c.files, 1u);
  EXPECT_EQ(c.busy, 2u);
  EXPECT_EQ(in.state(d, name(0)), kResident);
  ::munmap(map, 8192);
  fd.reset();
  EXPECT_EQ(in.cache.evict(*d, "").files, 2u);
  EXPECT_EQ(in.cache.usage().files, 0u);
  EXPECT_EQ(on_tmpfs(d), 0u);
}

// "larder status shows per dataset: cached bytes and files, predicted hit ratio, in use"
TEST_F(Cache, UsageTellsSharesAndWhatIsInUse) {
  fill_bucket(8);
  Inside in(out);
  auto d = in.mount();
  auto [body, fd] = in.fetch(in.object(d, name(0)));
  in.read(d, name(1));
  EXPECT_EQ(in.cache.usage_of(*d).objects, 2.0);
  EXPECT_EQ(in.cache.in_use(*d), 1u);
  fd.reset();
  EXPECT_EQ(in.cache.in_use(*d), 0u);
  // Opened from the cache, as a program does: a touch, and a descriptor that the daemon does not see.
  uint32_t entry = d->version()->find_file(name(1));
  Fd program = must(in.cache.open_resident(*d, entry));
  EXPECT_EQ(in.cache.in_use(*d), 0u);
  Mapping touch = must(Mapping::map(d->version()->touch().get(), d->version()->catalog().entry_count, true));
  static_cast<uint8_t*>(touch.data())[entry] = 1;
  d->last_use_ns = 0;
  in.cache.note_use();
  EXPECT_NE(d->last_use_ns, 0);
  EXPECT_EQ(in.cache.in_use(*d), 1u);  // the touch is gone, the file is still open
  program.reset();
  EXPECT_EQ(in.cache.in_use(*d), 0u);
}

TEST_F(Cache, ReplacedFilesInUseCountUntilTheyAreClosed) {
  fill_bucket(1);
  Inside in(out);
  auto d = in.mount();
  auto [body, fd] = in.fetch(in.object(d, name(0)));
  out.bucket->put(name(0), "new");
  ASSERT_TRUE(in.datasets.refresh(d->def.name, {}).ok());
  EXPECT_EQ(in.cache.usage().pinned_by_readers, 8192u);
  EXPECT_EQ(in.state(d, name(0)), kAbsent);
  char c;
  EXPECT_EQ(::pread(fd->get(), &c, 1, 8191), 1);  // the old version, whole
  EXPECT_EQ(c, 'a');
  in.cache.poll_zombies();
  EXPECT_EQ(in.cache.usage().pinned_by_readers, 8192u);
  fd.reset();
  in.cache.poll_zombies();
  EXPECT_EQ(in.cache.usage().pinned_by_readers, 0u);
  EXPECT_EQ(in.read(d, name(0)), "new");
}

TEST_F(Cache, WhenEverythingIsInUseAProgramWaitsThenGetsAnError) {
  fill_bucket(200);
  out.limits = {1 << 20, 0, 16 << 10};
  Inside in(out, 8, 200);
  auto d = in.mount();
  std::vector<std::shared_ptr<Fd>> held;
  int i = 0;
  std::string last;
  for (; i < 200; ++i) {
    auto [body, fd] = in.fetch(in.object(d, name(i)));
    last = body;
    if (!fd) break;
    held.push_back(fd);
  }
  EXPECT_EQ(last, fmt::format("errno {}", ENOSPC));
  EXPECT_GT(held.size(), 60u);
  EXPECT_LE(in.cache.usage().used, out.limits.cache_size + out.limits.cache_size / 32);
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    held.clear();
  });
  EXPECT_EQ(in.read(d, name(i)).size(), 8192u);  // waits until the others are closed
  later.join();
}

// One reader who keeps files open does not keep others from reading.
TEST_F(Cache, WhenEverythingIsInUseWhatOthersReadPassesThrough) {
  fill_bucket(200);
  out.limits = {1 << 20, 0, 16 << 10};
  Inside in(out, 8, 200);
  auto greedy = in.mount("/data/x"), other = in.mount("/data/y");
  std::vector<std::shared_ptr<Fd>> held;
  for (int i = 0; i < 200; ++i) {
    auto [body, fd] = in.fetch(in.object(greedy, name(i)));
    if (!fd) break;
    held.push_back(fd);
  }
  ASSERT_LT(held.size(), 200u);
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(in.read(other, name(i)).size(), 8192u) << i;
    EXPECT_LE(in.cache.usage().used, out.limits.cache_size + out.limits.cache_size / 32);
  }
  EXPECT_GE(in.cache.usage().passed, 50u);
  EXPECT_EQ(in.state(other, name(0)), kAbsent) << "it was not cached";
  held.clear();
  in.cache.poll_zombies();
  EXPECT_EQ(in.cache.usage().passing, 0u);
  EXPECT_EQ(in.cache.usage().pinned_by_readers, 0u);
  EXPECT_EQ(in.read(other, name(0)).size(), 8192u);
  EXPECT_EQ(in.state(other, name(0)), kResident);
}

TEST_F(Cache, AnObjectLargerThanTheCacheIsRefusedClearly) {
  fill_bucket(1, 2 << 20);
  out.limits = {1 << 20, 0, 16 << 10};
  Inside in(out);
  auto d = in.mount();
  EXPECT_EQ(in.read(d, name(0)), fmt::format("errno {}", EFBIG));
}

TEST_F(Cache, LeftoversOfAnUnmountedDatasetMakeRoom) {
  fill_bucket(100);
  out.limits = {1400 << 10, 0, 16 << 10};
  Inside in(out);
  auto d = in.mount("/data/x");
  for (int i = 0; i < 100; ++i)
    in.read(d, name(i));
  ASSERT_TRUE(in.datasets.umount("/data/x").ok());
  EXPECT_EQ(in.cache.usage_of(*d).files, 100u);
  auto e = in.mount("/data/y");
  for (int i = 0; i < 100; ++i)
    in.read(e, name(i));
  EXPECT_EQ(in.cache.usage_of(*e).files, 100u);
  EXPECT_LT(in.cache.usage_of(*d).files, 60u);
  EXPECT_EQ(in.cache.usage().staging, 0u);
  EXPECT_LE(in.cache.usage().used, out.limits.cache_size);
}

TEST_F(Cache, ATornOrWrongBodyIsNeverPublished) {
  fill_bucket(1);
  Inside in(out);
  auto d = in.mount();
  out.bucket->cut_short = 1;
  EXPECT_EQ(in.read(d, name(0)), fmt::format("errno {}", EIO));
  EXPECT_EQ(in.state(d, name(0)), kAbsent);
  EXPECT_EQ(on_tmpfs(d), 0u);
  EXPECT_EQ(in.cache.usage().files, 0u);
  out.bucket->cut_short = 0;
  EXPECT_EQ(in.read(d, name(0)).size(), 8192u);
}

// Takeover reuses the residency files of the current versions in place and corrects them by what is on disk.
TEST_F(Cache, ARestartTakesOverWhatIsGood) {
  fill_bucket(6);
  std::string dir;
  auto mapped = std::make_unique<Mapping>();
  {
    Inside in(out);
    auto d = in.mount();
    for (int i = 0; i < 5; ++i)
      in.read(d, name(i));
    dir = folder(d);
    auto path = [&](int i) {
      char hex[33];
      object_name(in.object(d, name(i)).oid, hex);
      return dir + "/" + hex;
    };
    std::filesystem::remove(path(1));
    ::chmod(path(2).c_str(), 0644);
    std::filesystem::resize_file(path(2), 10);
    ::chmod(path(3).c_str(), 0666);
    Fd fd(::open((dir + "/" + std::string(residency_name(1))).c_str(), O_RDONLY));
    *mapped = std::move(*Mapping::map(fd.get(), residency_bytes(d->version()->catalog().entry_count), false));
    std::ofstream(dir + "/ffffffffffffffffffffffffffffffff") << "nobody's";
    std::ofstream(dir + "/readme") << "unknown";
  }
  Inside in(out);
  auto d = in.mount();
  for (int i = 0; i < 6; ++i)
    EXPECT_EQ(in.state(d, name(i)), i == 0 || i == 4 ? kResident : kAbsent) << i;
  EXPECT_EQ(in.cache.usage().files, 2u);
  EXPECT_FALSE(std::filesystem::exists(dir + "/ffffffffffffffffffffffffffffffff"));
  EXPECT_TRUE(std::filesystem::exists(dir + "/readme"));
  EXPECT_FALSE(d->verified);
  uint64_t before = out.bucket->get_count();
  for (int i = 0; i < 6; ++i)
    EXPECT_EQ(in.read(d, name(i)).size(), 8192u);
  EXPECT_EQ(out.bucket->get_count() - before, 4u);
  // A program that kept it mapped sees the new daemon's words.
  auto* r = static_cast<const Residency*>(mapped->data());
  EXPECT_EQ(r->words[d->version()->find_file(name(1))].load() & kStateMask, kResident);
}

TEST_F(Cache, ACorruptFileIsFoundAndDropped) {
  fill_bucket(3);
  Inside in(out);
  auto d = in.mount();
  for (int i = 0; i < 3; ++i)
    in.read(d, name(i));
  char hex[33];
  object_name(in.object(d, name(1)).oid, hex);
  ::chmod((folder(d) + "/" + hex).c_str(), 0644);
  Fd fd(::open((folder(d) + "/" + hex).c_str(), O_WRONLY));
  ASSERT_TRUE(pwrite_all(fd.get(), "\x01", 1, 4000).ok());
  fd.reset();
  CheckCounts counts;
  ASSERT_TRUE(verify(in.cache, d, "", counts, [](auto&) { return true; }).ok());
  EXPECT_EQ(counts.files, 3u);
  ASSERT_EQ(counts.corrupt.size(), 1u);
  EXPECT_EQ(counts.corrupt[0].second, name(1));
  EXPECT_EQ(in.state(d, name(1)), kAbsent);
  EXPECT_EQ(in.read(d, name(1)), std::string(8192, 'b'));
}

TEST_F(Cache, AFileThatSomebodyRemovedIsFetchedAgain) {
  fill_bucket(1);
  Inside in(out);
  auto d = in.mount();
  in.read(d, name(0));
  char hex[33];
  object_name(in.object(d, name(0)).oid, hex);
  std::filesystem::remove(folder(d) + "/" + hex);
  EXPECT_EQ(in.read(d, name(0)).size(), 8192u);
  EXPECT_EQ(in.cache.usage().files, 1u);
  EXPECT_EQ(out.bucket->get_count(), 2u);
}

}  // namespace
}  // namespace larder
