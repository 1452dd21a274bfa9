#include "cached/catalog/pins.h"

#include "tests/cached/fakes.h"

namespace larder {
namespace {

using test::must;

class PinFile : public ::testing::Test {
 protected:
  std::unique_ptr<Pins> open() { return Pins::open(folder_.get(), folder_.get(), meter_); }
  test::TempFolder temp;
  Fd folder_{must(open_dir(AT_FDCWD, temp.path()))};
  Meter meter_{0};
};

TEST_F(PinFile, SurvivesARestartWithOddNames) {
  std::vector<std::string> paths = {"a\nb", "d\xff/x y", "e"};
  ASSERT_TRUE(open()->add(paths).ok());
  EXPECT_EQ(open()->paths(), std::set<std::string>(paths.begin(), paths.end()));
  EXPECT_EQ(meter_, 0u) << "what lives counts, what ended does not";
  auto pins = open();
  EXPECT_EQ(meter_, 4096u);
}

TEST_F(PinFile, AFolderCoversWhatIsBelowItAndNothingBeside) {
  auto pins = open();
  ASSERT_TRUE(pins->add(std::vector<std::string>{"a/b/c", "a-b", "a/d", "ab"}).ok());
  ASSERT_TRUE(pins->add(std::vector<std::string>{"a"}).ok());
  EXPECT_EQ(pins->paths(), (std::set<std::string>{"a", "a-b", "ab"}));
  ASSERT_TRUE(pins->add(std::vector<std::string>{"a/x"}).ok());
  EXPECT_EQ(pins->paths().size(), 3u) << "it is pinned already";
  Result<size_t> gone = pins->remove("a/x");
  ASSERT_FALSE(gone.ok());
  EXPECT_EQ(gone.error().code, EINVAL);
  EXPECT_EQ(must(pins->remove("nothing")), 0u);
  EXPECT_EQ(must(pins->remove("a")), 1u);
  EXPECT_EQ(must(pins->remove("")), 2u);
  EXPECT_TRUE(open()->paths().empty());
}

TEST_F(PinFile, ADamagedFileIsNone) {
  spdlog::set_level(spdlog::level::off);
  ASSERT_TRUE(open()->add(std::vector<std::string>{"a", "b"}).ok());
  const std::string good = must(read_file(folder_.get(), "pins", 1000));
  for (size_t cut = 0; cut < good.size(); ++cut) {
    ASSERT_TRUE(replace_file(folder_.get(), "pins", good.substr(0, cut), 0600).ok());
    EXPECT_TRUE(open()->paths().empty()) << cut;
  }
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 4);
    ASSERT_TRUE(replace_file(folder_.get(), "pins", bad, 0600).ok());
    EXPECT_TRUE(open()->paths().empty()) << at;
  }
  ASSERT_TRUE(open()->add(std::vector<std::string>{"c"}).ok()) << "and is written anew";
  EXPECT_EQ(open()->paths().size(), 1u);
}

TEST_F(PinFile, TooManyPathsAreRefusedAndNothingChanges) {
  auto pins = open();
  ASSERT_TRUE(pins->add(std::vector<std::string>{"x"}).ok());
  std::vector<std::string> many;
  for (size_t i = 0; i < Pins::kMost; ++i)
    many.push_back(fmt::format("f{}", i));
  Status s = pins->add(many);
  ASSERT_FALSE(s.ok());
  EXPECT_EQ(s.error().code, E2BIG);
  EXPECT_EQ(open()->paths(), std::set<std::string>{"x"});
}

}  // namespace
}  // namespace larder
