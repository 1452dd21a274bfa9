// local: metadata: its own promises, beside those that meta_test.cc checks for every engine.
#include "cached/meta/local/local.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "cached/meta/open/open_meta.h"
#include "cached/meta/segment.h"
#include "tests/cached/meta/meta_fixture.h"
#include "tests/cached/store/http/live_server.h"

namespace larder {
namespace {

using namespace larder::testing;

class LocalMetaTest : public ::testing::Test {
 protected:
  void SetUp() override { meta_ = open(); }
  std::unique_ptr<Meta> open() {
    auto meta = open_meta("local://" + dir_.path() + "/state/deep", "/nonexistent");
    EXPECT_TRUE(meta.ok()) << meta.error().message;
    return std::move(*meta);
  }
  std::string file() const { return dir_.path() + "/state/deep/meta.sqlite"; }
  static DatasetDef def(const std::string& name) { return definition(name); }

  TempDir dir_;
  std::unique_ptr<Meta> meta_;
};

TEST_F(LocalMetaTest, AWriterThatIsDroppedOrFailsLeavesNothing) {
  ASSERT_TRUE(meta_->put_dataset(def("a")).ok());
  {
    auto writer = meta_->write_version("a");
    for (uint64_t i = 0; i < 40'000; ++i)
      ASSERT_TRUE((*writer)->add(object_of(i)).ok());
  }
  EXPECT_FALSE(meta_->current("a")->has_value());
  auto writer = meta_->write_version("a");
  ASSERT_TRUE((*writer)->add({"b", 1, 0, ""}).ok());
  EXPECT_EQ((*writer)->add({"a", 1, 0, ""}).error().code, EINVAL);
  EXPECT_EQ((*writer)->commit(0).error().code, EINVAL) << "a version with a hole is not published";
  EXPECT_FALSE(meta_->current("a")->has_value());
  EXPECT_EQ(meta_->write_version("nobody").error().code, ENOENT);
  writer->reset();
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(file().c_str(), &db), SQLITE_OK);
  sqlite3_stmt* rows = nullptr;
  sqlite3_prepare_v2(db, "SELECT (SELECT count(*) FROM segments) + (SELECT count(*) FROM sets)", -1, &rows, nullptr);
  ASSERT_EQ(sqlite3_step(rows), SQLITE_ROW);
  EXPECT_EQ(sqlite3_column_int(rows, 0), 0);
  sqlite3_finalize(rows);
  sqlite3_close(db);
}

TEST_F(LocalMetaTest, DamagedDataIsAnErrorThatSaysWhatToDo) {
  ASSERT_TRUE(meta_->put_dataset(def("a")).ok());
  publish(*meta_, "a", 20'000);
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(file().c_str(), &db), SQLITE_OK);
  ASSERT_EQ(
      sqlite3_exec(db, "UPDATE segments SET data = substr(data, 1, 1000) WHERE number = 1", nullptr, nullptr, nullptr),
      SQLITE_OK);
  auto status = meta_->load("a", 1, [](ObjectInfo&&) -> Status { return {}; });
  EXPECT_EQ(status.error().code, EIO);
  EXPECT_NE(status.error().message.find("larder refresh"), std::string::npos) << status.error().message;
  ASSERT_EQ(sqlite3_exec(db, "DELETE FROM segments WHERE number = 1", nullptr, nullptr, nullptr), SQLITE_OK);
  EXPECT_EQ(meta_->load("a", 1, [](ObjectInfo&&) -> Status { return {}; }).error().code, EIO)
      << "a missing end is no shorter dataset";
  ASSERT_EQ(sqlite3_exec(db, "UPDATE datasets SET options = '[1]'", nullptr, nullptr, nullptr), SQLITE_OK);
  EXPECT_EQ(meta_->get_dataset("a").error().code, EIO);
  sqlite3_close(db);
}

TEST_F(LocalMetaTest, AFileOfANewerVersionOrOfAnotherKindIsRefused) {
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(file().c_str(), &db), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(db, "PRAGMA user_version = 99", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(db);
  auto meta = open_meta("local:", dir_.path() + "/state/deep");
  ASSERT_FALSE(meta.ok());
  EXPECT_EQ(meta.error().code, EPROTO);
  TempDir other;
  std::ofstream(other.path() + "/meta.sqlite") << std::string(100'000, 'x');
  auto wrong = open_meta("local:", other.path());
  ASSERT_FALSE(wrong.ok());
  EXPECT_NE(wrong.error().message.find(other.path() + "/meta.sqlite"), std::string::npos) << wrong.error().message;
}

TEST_F(LocalMetaTest, FilesAreTheUsersOwn) {
  struct stat st {};
  ASSERT_EQ(stat(file().c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 077, 0u);
  ASSERT_EQ(stat((dir_.path() + "/state").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 077, 0u);
  EXPECT_FALSE(open_meta("local:", "/proc/no/such/place").ok());
}

TEST_F(LocalMetaTest, AMillionObjectsLoadFast) {
  ASSERT_TRUE(meta_->put_dataset(def("big")).ok());
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  publish(*meta_, "big", 1'000'000);
  const auto written = Clock::now();
  uint64_t objects = 0, bytes = 0;
  ASSERT_TRUE(meta_
                  ->load("big", 1,
                         [&](ObjectInfo&& object) -> Status {
                           ++objects;
                           bytes += object.size;
                           return {};
                         })
                  .ok());
  const auto loaded = Clock::now();
  EXPECT_EQ(objects, 1'000'000u);
  EXPECT_EQ(bytes, (*meta_->current("big"))->bytes);
  struct stat st {
  }, wal{};
  stat(file().c_str(), &st);
  stat((file() + "-wal").c_str(), &wal);
  auto ms = [](auto d) { return std::chrono::duration_cast<std::chrono::milliseconds>(d).count(); };
  printf(
      "    1,000,000 objects: written in %lld ms, loaded in %lld ms, %.1f bytes an object in the file, %.1f in the "
      "log\n",
      static_cast<long long>(ms(written - start)), static_cast<long long>(ms(loaded - written)),
      static_cast<double>(st.st_size) / 1e6, static_cast<double>(wal.st_size) / 1e6);
  EXPECT_LT(st.st_size, 60'000'000);
#ifndef __SANITIZE_ADDRESS__
#ifndef __SANITIZE_THREAD__
  EXPECT_LT(ms(loaded - written), 2000);  // 0.5 s on an idle machine; this one is shared
#endif
#endif
}

}  // namespace
}  // namespace larder
