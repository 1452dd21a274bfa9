// --include and --exclude: a rule that is misread copies what must stay, or omits what is needed.
#include "cached/store/api/filter.h"

#include <gtest/gtest.h>

#include <chrono>

namespace larder {
namespace {

TEST(GlobTest, WildcardsStayWithinAFolderAndGlobstarsDoNot) {
  struct Case {
    const char* glob;
    const char* text;
    bool matches;
  };
  const Case cases[] = {
      {"a", "a", true},
      {"a", "b", false},
      {"*", "abc", true},
      {"*", "a/b", false},
      {"*.jpg", "x.jpg", true},
      {"*.jpg", ".jpg", true},
      {"*.jpg", "x.jpg2", false},
      {"a*c*e", "abcde", true},
      {"a*c*e", "abde", false},
      {"?", "x", true},
      {"?", "", false},
      {"?", "/", false},
      {"?", "ü", true},
      {"??", "ü", false},
      {"a/**", "a/b/c", true},
      {"a/**", "a", false},
      {"**/x", "x", true},
      {"**/x", "a/b/x", true},
      {"**/x", "ax", false},
      {"**/x", "a/bx", false},
      {"a/**/b", "a/b", true},
      {"a/**/b", "a/x/y/b", true},
      {"a/**/b", "ab", false},
      {"a**b", "a/x/b", true},
      {"[a-c]x", "bx", true},
      {"[a-c]x", "dx", false},
      {"[!a-c]x", "dx", true},
      {"[!a-c]x", "ax", false},
      {"[]]", "]", true},
      {"[a-]", "-", true},
      {"[!/]", "/", false},
      {"[ä-ü]", "ö", true},
      {"\\*", "*", true},
      {"\\*", "x", false},
      {"[\\]]", "]", true},
      {"a\\", "a\\", true},
      {"*/b", "a/b", true},
      {"*/b", "a/c/b", false},
      {"x/*/**/y", "x/1/y", true},
      {"", "", true},
      {"**", "a/b", true},
      {"a/**/b/**/c", "a/b/b/x/c", true},
  };
  for (auto& c : cases)
    EXPECT_EQ(glob_match(c.glob, c.text), c.matches) << c.glob << " on " << c.text;
}

TEST(GlobTest, HostilePatternsEndSoon) {
  std::string glob, text(4000, 'a');
  for (int i = 0; i < 40; ++i)
    glob += "*a";
  EXPECT_FALSE(glob_match(glob + "b", text));
  std::string folders = "**/";
  for (int i = 0; i < 20; ++i)
    folders += "a/**/";
  EXPECT_FALSE(glob_match(folders + "b", text));
}

Filter filter(std::initializer_list<std::pair<bool, const char*>> rules) {
  Filter out;
  for (auto& [include, pattern] : rules)
    EXPECT_TRUE(out.add(include, pattern).ok()) << pattern;
  return out;
}

TEST(FilterTest, TheFirstRuleThatMatchesDecides) {
  const Filter f = filter({{true, "*.jpg"}, {false, "*"}});
  EXPECT_TRUE(f.includes("x.jpg"));
  EXPECT_TRUE(f.includes("a/b/x.jpg"));
  EXPECT_FALSE(f.includes("x.png"));
  EXPECT_FALSE(filter({{false, "*"}, {true, "*.jpg"}}).includes("x.jpg")) << "the order counts";
  EXPECT_TRUE(filter({{true, "*.jpg"}}).includes("x.png")) << "what no rule matches is included";
  EXPECT_TRUE(Filter().includes("anything"));
}

TEST(FilterTest, ASlashTiesAPatternToTheRoot) {
  const Filter loose = filter({{false, "tmp"}}), tied = filter({{false, "/tmp"}}), inner = filter({{false, "a/tmp"}});
  EXPECT_FALSE(loose.includes("tmp"));
  EXPECT_FALSE(loose.includes("a/tmp"));
  EXPECT_FALSE(loose.includes("a/tmp/deep/x")) << "and everything below";
  EXPECT_TRUE(loose.includes("a/tmpx"));
  EXPECT_FALSE(tied.includes("tmp/x"));
  EXPECT_TRUE(tied.includes("a/tmp/x"));
  EXPECT_FALSE(inner.includes("a/tmp/x"));
  EXPECT_TRUE(inner.includes("b/a/tmp/x"));
}

TEST(FilterTest, ASlashAtTheEndMeansFolders) {
  const Filter f = filter({{false, "cache/"}});
  EXPECT_TRUE(f.includes("cache"));
  EXPECT_FALSE(f.includes("cache/x"));
  EXPECT_FALSE(f.includes("a/cache/x"));
  EXPECT_FALSE(f.includes("cache/")) << "the marker of a folder";
}

TEST(FilterTest, AFolderCanBeTakenBackInBeforeItsParentIsLeftOut) {
  const Filter f = filter({{true, "/data/keep/"}, {false, "/data"}});
  EXPECT_TRUE(f.includes("data/keep/x"));
  EXPECT_FALSE(f.includes("data/other/x"));
  EXPECT_TRUE(f.includes("x"));
}

TEST(FilterTest, PatternsThatCannotMatchAreRefused) {
  Filter f;
  for (const char* bad : {"", "/", "[abc", "x[", "a/[!"})
    EXPECT_FALSE(f.add(true, bad).ok()) << bad;
  EXPECT_TRUE(f.add(true, "\\[abc").ok());
  EXPECT_TRUE(f.includes("[abc"));
}

// Only a folder whose every key is excluded need not be read.
TEST(Filter, FoldersThatAreExcludedWithAllThatIsInThem) {
  Filter filter;
  ASSERT_TRUE(filter.add(false, "lost+found/").ok());
  ASSERT_TRUE(filter.add(false, "/a/b/").ok());
  ASSERT_TRUE(filter.add(true, "*.jpg").ok());
  ASSERT_TRUE(filter.add(false, "cache").ok());
  for (const char* folder : {"lost+found", "x/lost+found", "lost+found/deep", "a/b", "a/b/c"})
    EXPECT_TRUE(filter.excludes_folder(folder)) << folder;
  for (const char* folder : {"a", "b", "x/a/b", "cache", "lost"})
    EXPECT_FALSE(filter.excludes_folder(folder)) << folder;
}

TEST(Filter, PatternsOfTheOptionExclude) {
  auto filter = exclude_filter("  *.tmp lost+found/  with\\ blank ");
  ASSERT_TRUE(filter.ok()) << filter.error().message;
  for (const char* key : {"a.tmp", "d/a.tmp", "lost+found/x", "with blank"})
    EXPECT_FALSE(filter->includes(key)) << key;
  for (const char* key : {"with", "blank", "a.jpg"})
    EXPECT_TRUE(filter->includes(key)) << key;
  EXPECT_TRUE(exclude_filter("")->empty());
  EXPECT_EQ(exclude_filter("good [bad").error().code, EINVAL);
}

}  // namespace
}  // namespace larder
