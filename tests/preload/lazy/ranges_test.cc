// The table of mapped ranges does what a plain list of pages does, at any size.
#include "preload/lazy/ranges.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <thread>

namespace larder {
namespace {

constexpr uint64_t kPage = 4096;
std::map<uint32_t, int> shown;  // ranges of each file, as the table tells them

void counted(uint32_t file, int by) {
  shown[file] += by;
}

class Ranges : public testing::Test {
 protected:
  void SetUp() override { shown.clear(); }

  void insert(uint64_t page, uint64_t pages, uint32_t file, uint64_t offset) {
    ASSERT_TRUE(table_.insert({page * kPage, (page + pages) * kPage, offset * kPage, file, 0, 0}));
    for (uint64_t i = 0; i < pages; ++i)
      model_[page + i] = {file, offset + i};
  }
  void erase(uint64_t page, uint64_t pages) {
    ASSERT_TRUE(table_.erase(page * kPage, (page + pages) * kPage));
    for (uint64_t i = 0; i < pages; ++i)
      model_.erase(page + i);
  }
  void expect_same(uint64_t page) {
    const MappedRange* r = table_.find(page * kPage + 5);
    const auto found = model_.find(page);
    ASSERT_EQ(r != nullptr, found != model_.end()) << page;
    ASSERT_EQ(table_.first_in(page * kPage, page * kPage + 1) != 0, r != nullptr) << page;
    if (r == nullptr) return;
    ASSERT_EQ(r->file, found->second.first);
    ASSERT_EQ(r->file_offset(page * kPage), found->second.second * kPage);
  }
  void expect_counts() {
    std::map<uint32_t, int> there;
    for (uint32_t i = 0; i < table_.size(); ++i)
      ++there[table_[i].file];
    for (const auto& [file, n] : shown)
      ASSERT_EQ(there[file], n) << file;
  }

  RangeTable table_{counted};
  std::map<uint64_t, std::pair<uint32_t, uint64_t>> model_;
};

TEST_F(Ranges, DoesWhatAListOfPagesDoes) {
  std::minstd_rand random(7);
  for (int step = 0; step < 30'000; ++step) {
    const uint64_t page = 1 + random() % 20'000, pages = 1 + random() % 4;
    if (random() % 3 != 0)
      insert(page, pages, static_cast<uint32_t>(random() % 50), random() % 1000);
    else
      erase(page, pages + random() % 30);
    if (step % 16 == 0) expect_same(1 + random() % 20'000);
  }
  EXPECT_GT(table_.size(), 2000u);
  for (uint64_t page = 1; page < 20'010; ++page)
    expect_same(page);
  expect_counts();
}

TEST_F(Ranges, GrowsDownwardsAndUpwards) {
  for (uint64_t i = 0; i < 40'000; ++i)
    insert(100'000 - 2 * i, 1, 3, i);
  for (uint64_t i = 0; i < 40'000; ++i)
    insert(100'002 + 2 * i, 1, 4, i);
  EXPECT_EQ(table_.size(), 80'000u);
  expect_same(100'000);
  expect_same(100'000 - 2 * 39'999);
  expect_same(100'002 + 2 * 39'999);
  EXPECT_EQ(table_.first_in(100'001 * kPage, 100'003 * kPage), 100'002 * kPage);
  EXPECT_EQ(table_.first_in(100'001 * kPage, 100'002 * kPage), 0u);
  expect_counts();
}

TEST_F(Ranges, MovesWhatMoves) {
  insert(10, 8, 1, 100);
  table_.move(12 * kPage, 50 * kPage, 3 * kPage);
  EXPECT_EQ(table_.find(12 * kPage), nullptr);
  ASSERT_NE(table_.find(51 * kPage), nullptr);
  EXPECT_EQ(table_.find(51 * kPage)->file_offset(51 * kPage), 103 * kPage);
  EXPECT_EQ(table_.find(16 * kPage)->file_offset(16 * kPage), 106 * kPage);
  expect_counts();
}

// What never changes is found by another thread, whatever is changed beside it.
TEST_F(Ranges, AnotherThreadLooksWhileItChanges) {
  insert(1000, 4, 9, 0);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> wrong{0}, looked{0};
  std::thread reader([&] {
    while (!stop) {
      wrong += table_.first_in(1001 * kPage, 1002 * kPage) != 1001 * kPage;
      ++looked;
    }
  });
  for (uint64_t i = 0; i < 20'000 || looked < 1000; ++i) {
    const uint64_t page = i % 2 != 0 ? 2000 + i % 9000 * 2 : 1 + i % 900;
    if (i % 5 == 0)
      table_.erase(page * kPage, (page + 7) * kPage);
    else
      table_.insert({page * kPage, (page + 1) * kPage, 0, 1, 0, 0});
  }
  stop = true;
  reader.join();
  EXPECT_EQ(wrong, 0u);
}

}  // namespace
}  // namespace larder
