#include "cached/store/http/parallel_list.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <random>
#include <set>
#include <thread>

namespace larder {
namespace {

constexpr size_t kPage = 50;

// A bucket that lists `kPage` entries a page, in the order of folders ("a/b" before "a-b") if told so, as SeaweedFS
// does.
struct Bucket {
  std::set<std::string> keys;
  bool by_folder = false;
  bool knows_after = true;
  std::atomic<int> pages{0}, at_once{0}, most{0}, probes{0};

  Result<ListPage> ask(const std::string& below, bool split, const std::string& next) {
    most = std::max(most.load(), ++at_once);
    ++pages;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    --at_once;
    std::vector<std::string> entries;  // keys, and folders with their slash
    for (auto& key : keys) {
      if (!key.starts_with(below)) continue;
      const size_t slash = split ? key.find('/', below.size()) : std::string::npos;
      entries.push_back(key.substr(0, slash == std::string::npos ? key.size() : slash + 1));
    }
    auto rank = [&](std::string text) {
      if (by_folder) std::replace(text.begin(), text.end(), '/', '\x01');
      return text;
    };
    std::sort(entries.begin(), entries.end(), [&](auto& a, auto& b) { return rank(a) < rank(b); });
    entries.erase(std::unique(entries.begin(), entries.end()), entries.end());
    ListPage page;
    size_t at = next.empty() ? 0 : std::stoul(next);
    for (size_t n = 0; n < kPage && at < entries.size(); ++n, ++at) {
      if (entries[at].back() == '/') {
        page.folders.push_back("p/" + entries[at]);
      } else {
        page.objects.push_back({"p/" + entries[at], 1, 2, "etag"});
      }
    }
    if (at < entries.size()) page.next = std::to_string(at);
    return page;
  }
  Result<std::string> first_after(const std::string& below, const std::string& after) {
    ++probes;
    auto rank = [&](std::string text) {
      if (by_folder) std::replace(text.begin(), text.end(), '/', '\x01');
      return text;
    };
    std::vector<std::string> all(keys.begin(), keys.end());
    std::sort(all.begin(), all.end(), [&](auto& a, auto& b) { return rank(a) < rank(b); });
    for (auto& key : all) {
      if (key.starts_with(below) && rank("p/" + key) > rank(after)) return "p/" + key;
    }
    return std::string();
  }
  Result<std::vector<std::string>> list() {
    std::vector<std::string> out;
    ParallelList list(
        "p/", [this](auto& folder, bool split, auto& next) { return ask(folder, split, next); },
        knows_after ? ParallelList::FirstAfter([this](auto& folder, auto& after) { return first_after(folder, after); })
                    : nullptr,
        [&](std::vector<ObjectInfo>&& objects) -> Status {
          for (auto& object : objects)
            out.push_back(object.key.substr(2));
          return {};
        });
    if (auto status = list.run(); !status.ok()) return status.error();
    return out;
  }
  std::vector<std::string> expected() const { return {keys.begin(), keys.end()}; }
};

std::string name(const char* format, int a, int b = 0) {
  char out[100];
  snprintf(out, sizeof out, format, a, b);
  return out;
}

class ParallelListTest : public testing::TestWithParam<bool> {
 protected:
  Bucket bucket;
  void SetUp() override { bucket.by_folder = GetParam(); }
  void expect_the_same() {
    auto got = bucket.list();
    ASSERT_TRUE(got.ok()) << got.error().message;
    EXPECT_EQ(*got, bucket.expected());
  }
};

TEST_P(ParallelListTest, FoldersOfAllSizesInByteOrder) {
  for (int c = 0; c < 12; ++c) {
    for (int i = 0; i < 130; ++i)
      bucket.keys.insert(name("train/n%02d/%03d", c, i));
  }
  for (int i = 0; i < 300; ++i)
    bucket.keys.insert(name("val/%04d", i));
  for (int i = 0; i < 120; ++i)
    bucket.keys.insert(name("train/n01-more/%03d", i));
  for (const char* key : {"a", "train", "train-x", "train.txt", "train/index", "train/n01", "train/n01.txt", "train0",
                          "val.txt", "zz/one/two/three"})
    bucket.keys.insert(key);
  expect_the_same();
  EXPECT_GT(bucket.most, 8) << "one after the other is no gain";
}

TEST_P(ParallelListTest, WithoutAFirstKeyAfterFlatAndTinyFoldersCostNoMoreRequests) {
  bucket.knows_after = false;
  for (int i = 0; i < 1000; ++i)
    bucket.keys.insert(name("%04d", i));
  expect_the_same();
  EXPECT_LE(bucket.pages, 21);
  bucket.keys.clear();
  bucket.pages = 0;
  for (int i = 0; i < 1000; ++i)
    bucket.keys.insert(name("%04d/x%d", i / 2, i % 2));
  expect_the_same();
  EXPECT_LE(bucket.pages, 21) << "a request for each pair of keys";
}

TEST_P(ParallelListTest, AFlatFolderOfManyPagesIsSplitByItsKeys) {
  for (int i = 0; i < 6000; ++i)
    bucket.keys.insert(name("img-%07d.jpg", i));
  expect_the_same();
  EXPECT_GT(bucket.most, 4) << "a million keys at 1,000 a page and 30 ms would take half a minute";
  EXPECT_LE(bucket.pages + bucket.probes, 6000 / 50 * 5 / 2);
  bucket.pages = bucket.probes = 0;
  bucket.keys.insert("img-");  // others begin with it
  bucket.keys.insert("img-0000");
  for (int i = 0; i < 600; ++i)
    bucket.keys.insert(name("img-\xe6\x97\xa5%04d", i));  // a character of three bytes
  for (int i = 0; i < 600; ++i)
    bucket.keys.insert(name("img-\xf4\x8f\xbf\xbf%04d", i));  // the last there is
  for (int i = 0; i < 600; ++i)
    bucket.keys.insert(name("img-x/%04d", i));
  for (int i = 0; i < 600; ++i)
    bucket.keys.insert(name("img-x-%04d", i));
  expect_the_same();
}

TEST_P(ParallelListTest, WhatCannotBeSplitByItsKeysStaysAChain) {
  for (int i = 0; i < 700; ++i)
    bucket.keys.insert(name("\xff%c%04d", 'a' + i % 2, i));  // no UTF-8
  expect_the_same();
  bucket.keys.clear();
  for (int i = 0; i < 700; ++i)
    bucket.keys.insert(name("a\xf4\x8f\xbf\xbf%04d", i));
  for (int i = 0; i < 700; ++i)
    bucket.keys.insert(name("b\xf4\x8f\xbf\xbf%04d", i));
  expect_the_same();
}

TEST_P(ParallelListTest, RandomKeys) {
  std::mt19937 random(7);
  for (int round = 0; round < 20; ++round) {
    bucket.keys.clear();
    const std::string letters = round % 2 ? "ab/-" : "0123456789abcdef";
    for (int i = 0; i < 1500; ++i) {
      std::string key = round % 3 ? "" : "same/";
      for (unsigned n = 1 + random() % 9; n > 0; --n)
        key += letters[random() % letters.size()];
      if (key.back() != '/') bucket.keys.insert(key);
    }
    expect_the_same();
  }
}

TEST_P(ParallelListTest, EmptyAndSmall) {
  expect_the_same();
  bucket.keys.insert("only/one");
  expect_the_same();
}

INSTANTIATE_TEST_SUITE_P(Orders, ParallelListTest, testing::Values(false, true));

TEST(ParallelListErrors, TheFirstErrorEndsIt) {
  std::atomic<int> asked{0};
  ParallelList list(
      "",
      [&](auto& folder, bool, auto&) -> Result<ListPage> {
        if (++asked > 1) return make_error(EIO, "broken");
        ListPage page;
        for (int i = 0; i < 200; ++i)
          page.objects.push_back({name("a/%03d", i), 1, 2, "e"});
        page.next = "more";
        (void)folder;
        return page;
      },
      nullptr, [](std::vector<ObjectInfo>&&) -> Status { return {}; });
  auto status = list.run();
  EXPECT_EQ(status.error().message, "broken");
}

TEST(ParallelListErrors, AStoreThatListsElsewhereIsNotFollowed) {
  ParallelList list(
      "p/",
      [&](auto&, bool split, auto&) -> Result<ListPage> {
        ListPage page;
        for (int i = 0; i < 200 && !split; ++i)
          page.objects.push_back({name("p/a/%03d", i), 1, 2, "e"});
        if (split) page.folders = {"p/"};  // itself: for ever
        if (!split) page.next = "more";
        return page;
      },
      nullptr, [](std::vector<ObjectInfo>&&) -> Status { return {}; });
  EXPECT_EQ(list.run().error().code, EIO);
}

TEST(ParallelListErrors, AReceiverThatFailsEndsIt) {
  Bucket bucket;
  for (int i = 0; i < 100; ++i)
    bucket.keys.insert(name("%02d/x", i));
  ParallelList list(
      "p/", [&](auto& folder, bool split, auto& next) { return bucket.ask(folder, split, next); }, nullptr,
      [](std::vector<ObjectInfo>&&) -> Status { return make_error(ENOSPC, "enough"); });
  EXPECT_EQ(list.run().error().code, ENOSPC);
}

}  // namespace
}  // namespace larder
