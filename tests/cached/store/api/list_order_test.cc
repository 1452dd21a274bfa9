// What the catalog is built from must be sorted and complete, whatever order a store lists in.
#include "cached/store/api/list_order.h"

#include <gtest/gtest.h>

namespace larder {
namespace {

struct Listed {
  Status status;
  std::vector<std::string> keys;
};

Listed run(const std::vector<std::vector<std::string>>& pages, bool any_order = false,
           const std::string& prefix = "p/") {
  Listed out;
  ListOrder order("s3://b/p/", prefix, any_order, [&](std::vector<ObjectInfo>&& page) -> Status {
    for (auto& object : page)
      out.keys.push_back(object.key);
    return {};
  });
  for (auto& page : pages) {
    std::vector<ObjectInfo> objects;
    for (auto& key : page)
      objects.push_back({key, 1, 0, ""});
    out.status = order.add(std::move(objects));
    if (!out.status.ok()) return out;
  }
  out.status = order.end();
  return out;
}

using Keys = std::vector<std::string>;

TEST(ListOrder, KeysComeSortedAndWithoutThePrefix) {
  EXPECT_EQ(run({{"p/a", "p/b"}, {}, {"p/c"}}).keys, (Keys{"a", "b", "c"}));
  EXPECT_EQ(run({{"p/a/b", "p/a-b"}, {"p/c"}}).keys, (Keys{"a-b", "a/b", "c"}))
      << "a store that lists folder by folder";
  EXPECT_EQ(run({{"p/b"}, {"p/a"}}).keys, (Keys{"a", "b"}));
  EXPECT_EQ(run({}).keys, Keys{});
}

std::vector<std::string> many(size_t count) {
  std::vector<std::string> out;
  char key[32];
  for (size_t i = 0; i < count; ++i) {
    snprintf(key, sizeof key, "p/k%08zu", i);
    out.push_back(key);
  }
  return out;
}

TEST(ListOrder, AForeignKeyEndsTheList) {
  EXPECT_EQ(run({{"p/a", "q/b"}}).status.error().code, EIO);
}

TEST(ListOrder, WhatComesTwiceStaysTheLaterLast) {
  EXPECT_EQ(run({{"p/a"}, {"p/a"}}).keys, (Keys{"a", "a"}));
  std::vector<uint64_t> sizes;
  ListOrder order("s3://b/p/", "p/", false, [&](std::vector<ObjectInfo>&& page) -> Status {
    for (auto& object : page)
      sizes.push_back(object.size);
    return {};
  });
  ASSERT_TRUE(order.add({{"p/b", 1, 0, ""}, {"p/a", 2, 0, ""}}).ok());
  ASSERT_TRUE(order.add({{"p/c", 3, 0, ""}, {"p/b", 4, 0, ""}, {"p/a", 5, 0, ""}}).ok());
  ASSERT_TRUE(order.end().ok());
  EXPECT_EQ(sizes, (std::vector<uint64_t>{2, 5, 1, 4, 3})) << "sorted by key, in the order in which they came";
  auto keys = many(ListOrder::kWindow + 10);
  EXPECT_EQ(run({keys, {keys.back()}}).keys.size(), keys.size() + 1) << "also where the list was handed on already";
}

TEST(ListOrder, DisorderAfterTheWindowNamesTheOption) {
  auto keys = many(ListOrder::kWindow + 10);
  EXPECT_EQ(run({keys}).keys.size(), keys.size());
  auto late = run({keys, {"p/a"}});
  ASSERT_FALSE(late.status.ok());
  EXPECT_NE(late.status.error().message.find("list_order=any"), std::string::npos);
  auto sorted = run({keys, {"p/a"}}, true);
  ASSERT_TRUE(sorted.status.ok());
  EXPECT_EQ(sorted.keys.front(), "a");
  EXPECT_EQ(sorted.keys.size(), keys.size() + 1);
}

}  // namespace
}  // namespace larder
