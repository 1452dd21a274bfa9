#include "cached/catalog/cache_dir.h"

#include <gmock/gmock.h>

#include <fstream>

#include "cached/catalog/inode_table.h"
#include "tests/cached/fakes.h"

namespace larder {
namespace {

using test::TempFolder;
using ::testing::HasSubstr;

TEST(CacheDir, WhatIsMadeForAStartThatFailsGoesAgain) {
  TempFolder t;
  {
    auto dir = test::open_cache(t / "c");
    ASSERT_TRUE(dir.ok());
  }
  EXPECT_FALSE(std::filesystem::exists(t / "c"));
  {
    auto dir = test::open_cache(t / "c");
    (*dir)->keep();
  }
  EXPECT_TRUE(std::filesystem::exists(t / "c/control"));
  {
    auto dir = test::open_cache(t / "c");
    ASSERT_TRUE(dir.ok());
  }  // taken over, not made: stays
  EXPECT_TRUE(std::filesystem::exists(t / "c/control"));
}

TEST(CacheDir, TwoDaemonsNeverShareADirectory) {
  TempFolder t;
  auto first = test::open_cache(t / "c");
  auto second = test::open_cache(t / "c");
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, EBUSY);
  EXPECT_THAT(second.error().message, HasSubstr(fmt::format("pid {}", ::getpid())));
}

TEST(CacheDir, ADirectoryThatOthersMayWriteIsRefused) {
  TempFolder t;
  ::mkdir((t / "c").c_str(), 0700);
  ::chmod((t / "c").c_str(), 0777);
  EXPECT_EQ(test::open_cache(t / "c").error().code, EACCES);
  ::chmod((t / "c").c_str(), 0755);
  ::symlink((t / "c").c_str(), (t / "link").c_str());
  EXPECT_FALSE(test::open_cache(t / "link").ok());
}

// A new daemon keeps control (the generation only grows, epoch + 1, an odd generation is repaired), removes leftovers
// in tmp/, and leaves foreign files alone.
TEST(CacheDir, TakeOver) {
  TempFolder t;
  Meter meter{0};
  uint64_t generation, instance;
  {
    auto dir = test::open_cache(t / "c");
    (*dir)->keep();
    auto p = ControlWriter::start(**dir, 1000, meter);
    EXPECT_EQ((*dir)->control()->epoch, 1u);
    instance = (*dir)->control()->instance;
    generation = (*dir)->control()->generation += 1;  // died in the middle of a publication
    EXPECT_EQ(generation % 2, 1u);
  }
  std::ofstream(t / "c/tmp/half") << "x";
  std::ofstream(t / "c/notes.txt") << "x";
  auto dir = test::open_cache(t / "c");
  auto p = ControlWriter::start(**dir, 1000, meter);
  EXPECT_EQ((*dir)->control()->epoch, 2u);
  EXPECT_EQ((*dir)->control()->instance, instance);
  EXPECT_GT((*dir)->control()->generation.load(), generation);
  EXPECT_EQ((*dir)->control()->generation.load() % 2, 0u);
  EXPECT_FALSE(std::filesystem::exists(t / "c/tmp/half"));
  EXPECT_EQ((*dir)->unknown_names(), std::vector<std::string>{"notes.txt"});
  EXPECT_TRUE(std::filesystem::exists(t / "c/notes.txt"));
}

TEST(CacheDir, ADamagedControlIsMadeAnew) {
  TempFolder t;
  {
    auto dir = test::open_cache(t / "c");
    (*dir)->keep();
  }
  for (const std::string& bytes : {std::string(), std::string(100, 'x'), std::string(sizeof(Control), 'y')}) {
    std::ofstream(t / "c/control", std::ios::trunc) << bytes;
    auto dir = test::open_cache(t / "c");
    ASSERT_TRUE(dir.ok());
    EXPECT_EQ((*dir)->control()->magic, kControlMagic);
    EXPECT_NE((*dir)->control()->instance, 0u);
  }
}

TEST(CacheDir, PresenceIsWhatTheKernelSays) {
  TempFolder t;
  ::signal(SIGIO, SIG_IGN);
  auto dir = test::open_cache(t / "c");
  EXPECT_FALSE((*dir)->program_present());
  {
    Fd fd(::open((t / "c/presence").c_str(), O_RDONLY));
    Result<Mapping> map = Mapping::map(fd.get(), 4096, false);
    fd.reset();
    EXPECT_TRUE((*dir)->program_present());
  }
  EXPECT_FALSE((*dir)->program_present());
}

class Inodes : public ::testing::Test {
 protected:
  void open() {
    dir = std::move(*test::open_cache(t / "c"));
    dir->keep();
    publisher = std::move(*ControlWriter::start(*dir, 1000, meter));
    table = std::move(*InodeTableWriter::open(*dir, *publisher, meter));
  }
  void close() {
    table.reset();
    publisher.reset();
    dir.reset();
  }
  // As a program does: the table that control names.
  std::optional<uint64_t> find(uint64_t real) {
    Fd fd(::open(fmt::format("{}/c/inodes.{:016x}", t.path(), dir->control()->inode_table).c_str(), O_RDONLY));
    struct stat st;
    EXPECT_EQ(::fstat(fd.get(), &st), 0);
    EXPECT_EQ(st.st_mode & 0777, 0644u);
    Result<Mapping> map = Mapping::map(fd.get(), static_cast<size_t>(st.st_size), false);
    auto* t2 = static_cast<const InodeTable*>(map->data());
    const InodeSlot* s = t2->find(real, t2->slot_count - 1);
    return s ? std::optional(s->inode) : std::nullopt;
  }
  TempFolder t;
  Meter meter{0};
  std::unique_ptr<CacheDir> dir;
  std::unique_ptr<ControlWriter> publisher;
  std::unique_ptr<InodeTableWriter> table;
};

TEST_F(Inodes, GrowthKeepsAllAndMovesTheGeneration) {
  open();
  uint64_t before = dir->control()->generation;
  for (uint64_t i = 1; i <= 10000; ++i)
    ASSERT_TRUE(table->insert(i * 7, i, 1, InodeKind::kFile).ok());
  EXPECT_GT(dir->control()->generation.load(), before);
  EXPECT_GE(table->slot_count(), 20000u);
  for (uint64_t i = 1; i <= 10000; i += 97)
    EXPECT_EQ(find(i * 7), i);
  EXPECT_EQ(find(8), std::nullopt);
  EXPECT_EQ(meter.load(), on_disk(inode_table_bytes(table->slot_count())));
}

TEST_F(Inodes, RemovedOnesDoNotFillTheTable) {
  open();
  uint32_t slots = table->slot_count();
  for (uint64_t i = 1; i <= 50000; ++i) {
    ASSERT_TRUE(table->insert(i, i, 1, InodeKind::kFile).ok());
    if (i > 100) table->remove(i - 100);
  }
  EXPECT_EQ(table->slot_count(), slots);
  EXPECT_EQ(find(50000), 50000u);
  EXPECT_EQ(find(49000), std::nullopt);
}

TEST_F(Inodes, TakenOverInPlace) {
  open();
  ASSERT_TRUE(table->insert(5, 55, 1, InodeKind::kFile).ok());
  uint64_t id = dir->control()->inode_table;
  close();
  open();
  EXPECT_EQ(dir->control()->inode_table, id);
  EXPECT_EQ(find(5), 55u);
  ASSERT_TRUE(table->insert(5, 56, 1, InodeKind::kFile).ok());
  EXPECT_EQ(find(5), 56u);
  close();
  std::ofstream(fmt::format("{}/c/inodes.{:016x}", t.path(), id), std::ios::trunc) << "garbage";
  open();
  EXPECT_GT(dir->control()->inode_table, id);
  EXPECT_EQ(find(5), std::nullopt);
}

}  // namespace
}  // namespace larder
