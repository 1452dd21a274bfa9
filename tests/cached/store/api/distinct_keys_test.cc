// A key that a store lists twice is one file, and the dataset is mounted.
#include "cached/store/api/distinct_keys.h"

#include <gtest/gtest.h>

namespace larder {
namespace {

using Pages = std::vector<std::vector<ObjectInfo>>;

class ListedStore final : public Store {
 public:
  explicit ListedStore(Pages pages) : pages_(std::move(pages)) {}
  Status list(const std::function<Status(std::vector<ObjectInfo>&&)>& page) override {
    for (auto objects : pages_)
      if (Status s = page(std::move(objects)); !s) return s;
    return end;
  }
  Result<ObjectInfo> head(std::string_view) override { return make_error(ENOSYS, "not asked for"); }
  void get(GetRequest) override {}
  void hurry(std::string_view) override {}
  StoreCounters counters() const override { return {}; }

  Status end;

 private:
  const Pages pages_;
};

ObjectInfo object(const char* key, uint64_t size) {
  return {key, size, 0, ""};
}

struct Listed {
  std::vector<std::pair<std::string, uint64_t>> objects;
  ListedTwice twice;
};

Listed list(Pages pages) {
  Listed out;
  ListedStore store(std::move(pages));
  Status s = list_distinct(
      store,
      [&](std::vector<ObjectInfo>&& page) -> Status {
        EXPECT_FALSE(page.empty());
        for (auto& o : page)
          out.objects.emplace_back(o.key, o.size);
        return {};
      },
      out.twice);
  EXPECT_TRUE(s.ok());
  return out;
}

using Objects = std::vector<std::pair<std::string, uint64_t>>;

TEST(DistinctKeys, NothingTwiceIsHandedOnAsItIs) {
  EXPECT_EQ(list({}).objects, Objects{});
  const Listed l = list({{object("a", 1), object("b", 2)}, {}, {object("c", 3)}});
  EXPECT_EQ(l.objects, (Objects{{"a", 1}, {"b", 2}, {"c", 3}}));
  EXPECT_EQ(l.twice.count, 0u);
}

TEST(DistinctKeys, TheLaterCountsWithinAPage) {
  const Listed l = list({{object("a", 1), object("a", 2), object("b", 3), object("c", 4), object("c", 5),
                          object("c", 6), object("d", 7)}});
  EXPECT_EQ(l.objects, (Objects{{"a", 2}, {"b", 3}, {"c", 6}, {"d", 7}}));
  EXPECT_EQ(l.twice.count, 3u);
  EXPECT_EQ(l.twice.example, "a");
}

TEST(DistinctKeys, TheLaterCountsAcrossPages) {
  const Listed l =
      list({{object("a", 1), object("b", 2)}, {object("b", 3)}, {object("b", 4), object("b", 5), object("c", 6)}});
  EXPECT_EQ(l.objects, (Objects{{"a", 1}, {"b", 5}, {"c", 6}}));
  EXPECT_EQ(l.twice.count, 3u);
  EXPECT_EQ(list({{object("a", 1)}, {object("a", 2)}}).objects, (Objects{{"a", 2}}));
}

TEST(DistinctKeys, AnErrorEndsTheListAndWhatIsHeldIsNotHandedOn) {
  ListedStore store({{object("a", 1)}, {object("b", 2)}});
  store.end = make_error(EIO, "the store failed");
  ListedTwice twice;
  Objects got;
  Status s = list_distinct(
      store,
      [&](std::vector<ObjectInfo>&& page) -> Status {
        got.emplace_back(page[0].key, page[0].size);
        return {};
      },
      twice);
  EXPECT_EQ(s.error().code, EIO);
  EXPECT_EQ(got, (Objects{{"a", 1}}));
}

}  // namespace
}  // namespace larder
