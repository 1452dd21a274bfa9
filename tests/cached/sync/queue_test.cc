// The parts of a sync: its queue, its limits, what survives on disk.
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>

#include "cached/sync/key_spool.h"
#include "cached/sync/limits.h"
#include "cached/sync/object_stream.h"
#include "cached/sync/upload_state.h"
#include "cached/sync/work_queue.h"
#include "tests/cached/store/http/live_server.h"

namespace larder {
namespace {

TEST(WorkQueueTest, EverythingIsDoneOnceAlsoWhatTasksAdd) {
  std::atomic<int> outer{0}, inner{0};
  WorkQueue queue(4, 2);
  for (int i = 0; i < 200; ++i) {
    queue.push([&] {
      ++outer;
      for (int j = 0; j < 3; ++j)
        queue.push_urgent([&] { ++inner; });
    });
  }
  queue.wait_idle();
  EXPECT_EQ(outer, 200);
  EXPECT_EQ(inner, 600) << "wait_idle() returned while tasks of tasks were left";
}

TEST(WorkQueueTest, UrgentTasksOvertake) {
  std::vector<int> order;
  WorkQueue queue(1, 10);
  queue.push([&] {
    order.push_back(1);
    queue.push_urgent([&] { order.push_back(2); });
  });
  queue.push([&] { order.push_back(3); });
  queue.wait_idle();
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

TEST(MemoryBudgetTest, IsNeverExceededButByOneThatIsLargerThanAllOfIt) {
  MemoryBudget budget(100);
  std::atomic<uint64_t> now{0}, most{0};
  {
    WorkQueue queue(8, 100);
    for (int i = 0; i < 200; ++i) {
      queue.push([&, bytes = i % 50 == 0 ? uint64_t{150} : uint64_t{30}] {
        const MemoryBudget::Share share(budget, bytes);
        const uint64_t held = now.fetch_add(bytes) + bytes;
        EXPECT_TRUE(held <= 100 || held == 150) << held;
        most = std::max<uint64_t>(most, held);
        std::this_thread::yield();
        now.fetch_sub(bytes);
      });
    }
    queue.wait_idle();
  }
  EXPECT_EQ(now, 0u);
  EXPECT_GE(most, 60u) << "transfers did not run side by side";
}

TEST(RateLimitTest, TransfersTakeTheTimeThatTheirBytesNeed) {
  RateLimit rate(100'000);
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 4; ++i)
    rate.wait(10'000);  // the fourth may begin when the first three are through
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(300));
}

TEST(KeySpoolTest, GivesBackWhatWasAdded) {
  KeySpool spool;
  std::vector<std::string> keys = {"", "a", std::string("\0\n/", 3), std::string(5000, 'x')};
  for (int i = 0; i < 20'000; ++i)
    keys.push_back("key/" + std::to_string(i));
  for (auto& key : keys)
    ASSERT_TRUE(spool.add(key).ok());
  EXPECT_EQ(spool.count(), keys.size());
  ASSERT_TRUE(spool.rewind().ok());
  std::string key;
  for (auto& wanted : keys) {
    auto more = spool.next(key);
    ASSERT_TRUE(more.ok() && *more);
    ASSERT_EQ(key, wanted);
  }
  EXPECT_FALSE(*spool.next(key));
}

NewObject object(const std::string& version) {
  NewObject out;
  out.key = "big\n.bin";
  out.size = 100;
  out.part_bytes = 10;
  out.version = version;
  return out;
}

TEST(UploadStateTest, AnUploadIsFoundAgainForTheSameContentOnly) {
  testing::TempDir dir;
  const std::string where = dir.path() + "/deep/sync";
  UploadState(where, "server s3://b/p/").save(object("v1"), "upload-1");
  const UploadState later(where, "server s3://b/p/");
  EXPECT_EQ(later.find(object("v1")), "upload-1");
  EXPECT_EQ(later.find(object("v2")), std::nullopt) << "another version of the source";
  NewObject other = object("v1");
  other.part_bytes = 20;
  EXPECT_EQ(later.find(other), std::nullopt) << "parts of another size";
  EXPECT_EQ(UploadState(where, "elsewhere s3://b/p/").find(object("v1")), std::nullopt) << "another store";
  later.erase(object("v1"));
  EXPECT_EQ(later.find(object("v1")), std::nullopt);
}

TEST(UploadStateTest, BrokenFilesAndNoHomeAreNoUpload) {
  testing::TempDir dir;
  const UploadState state(dir.path(), "x");
  state.save(object("v"), "id");
  for (auto& entry : std::filesystem::directory_iterator(dir.path()))
    std::ofstream(entry.path()) << "larder-uplo";
  EXPECT_EQ(state.find(object("v")), std::nullopt);
  const UploadState none("", "x");
  none.save(object("v"), "id");
  EXPECT_EQ(none.find(object("v")), std::nullopt);
}

}  // namespace
}  // namespace larder
