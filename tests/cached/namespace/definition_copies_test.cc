// A node's copy of definitions. Without it, a larderd that starts while its Redis is away serves nothing.
#include "cached/namespace/definition_copies.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

namespace larder {
namespace {

class DefinitionCopiesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "larder-test-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string file() const { return folder_ + "/datasets.json"; }

  const DatasetDef def_{"a", 77, "s3://bucket/a/", {{"endpoint", "http://host:1"}, {"region", "x"}}, "ml"};
  std::string folder_;
};

TEST_F(DefinitionCopiesTest, TheNextProcessFindsWhatWasRemembered) {
  DefinitionCopies(file()).remember(def_);
  DefinitionCopies again(file());
  auto copy = again.find("a");
  ASSERT_TRUE(copy.has_value());
  EXPECT_EQ(copy->id, def_.id);
  EXPECT_EQ(copy->source, def_.source);
  EXPECT_EQ(copy->options, def_.options);
  EXPECT_EQ(copy->group, def_.group);
  struct stat st;
  ASSERT_EQ(stat(file().c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  again.forget("a");
  EXPECT_TRUE(DefinitionCopies(file()).all().empty());
}

TEST_F(DefinitionCopiesTest, ADamagedFileIsNoReasonNotToStart) {
  for (const char* text :
       {"", "{", "[]", R"({"datasets": 1})", R"({"datasets": [1, {"name": "../x", "id": "0000000000000001"}]})"}) {
    std::ofstream(file()) << text;
    DefinitionCopies copies(file());
    EXPECT_TRUE(copies.all().empty()) << text;
    copies.remember(def_);
    EXPECT_TRUE(DefinitionCopies(file()).find("a").has_value()) << text;
  }
}

TEST_F(DefinitionCopiesTest, WithoutAFileNothingIsKept) {
  DefinitionCopies copies("");
  copies.remember(def_);
  EXPECT_FALSE(copies.find("a").has_value());
}

}  // namespace
}  // namespace larder
