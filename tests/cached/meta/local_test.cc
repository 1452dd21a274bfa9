// local: metadata: a reader must see a whole version whatever happens to the writer.
#include "cached/meta/local.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "cached/meta/segment.h"
#include "tests/cached/store/live_server.h"

namespace larder {
namespace {

using larder::testing::TempDir;

std::string key_of(uint64_t i) {
  char key[64];
  snprintf(key, sizeof key, "train/n%08llu/n%08llu_%08llu.JPEG", static_cast<unsigned long long>(i / 1300 + 1440764),
           static_cast<unsigned long long>(i / 1300 + 1440764), static_cast<unsigned long long>(i));
  return key;
}

ObjectInfo object_of(uint64_t i, uint64_t seed = 0) {
  char etag[33];
  snprintf(etag, sizeof etag, "%016llx%016llx", static_cast<unsigned long long>((i + seed) * 0x9e3779b97f4a7c15ULL),
           static_cast<unsigned long long>((i + seed + 1) * 0xc2b2ae3d27d4eb4fULL));
  return {key_of(i), 100'000 + i % 20'000, (1'700'000'000 + static_cast<int64_t>(i / 50)) * 1'000'000'000, etag};
}

class LocalMetaTest : public ::testing::Test {
 protected:
  void SetUp() override { meta_ = open(); }
  std::unique_ptr<Meta> open() {
    auto meta = open_meta("local://" + dir_.path() + "/state/deep", "/nonexistent");
    EXPECT_TRUE(meta.ok()) << meta.error().message;
    return std::move(*meta);
  }
  std::string file() const { return dir_.path() + "/state/deep/meta.sqlite"; }
  static DatasetDef def(const std::string& name) {
    return {name, 7, "s3://bucket/" + name + "/", {{"region", "eu-west-1"}}, "ml"};
  }

  VersionInfo publish(Meta& meta, const std::string& name, uint64_t objects, uint64_t seed = 0) {
    auto writer = meta.write_version(name);
    EXPECT_TRUE(writer.ok()) << writer.error().message;
    for (uint64_t i = 0; i < objects; ++i) EXPECT_TRUE((*writer)->add(object_of(i, seed)).ok());
    auto info = (*writer)->commit(3);
    EXPECT_TRUE(info.ok()) << info.error().message;
    return *info;
  }

  // Objects of a version, each compared with object_of().
  static Result<uint64_t> count(Meta& meta, const std::string& name, uint64_t version, uint64_t seed = 0) {
    uint64_t i = 0;
    auto status = meta.load(name, version, [&](ObjectInfo&& object) -> Status {
      const ObjectInfo wanted = object_of(i, seed);
      EXPECT_EQ(object.key, wanted.key);
      EXPECT_EQ(object.size, wanted.size);
      EXPECT_EQ(object.mtime_ns, wanted.mtime_ns);
      EXPECT_EQ(object.etag, wanted.etag);
      ++i;
      return {};
    });
    if (!status.ok()) return status.error();
    return i;
  }

  TempDir dir_;
  std::unique_ptr<Meta> meta_;
};

TEST_F(LocalMetaTest, DatasetsAreKeptAcrossProcesses) {
  ASSERT_TRUE(meta_->put_dataset(def("b")).ok());
  ASSERT_TRUE(meta_->put_dataset(def("a")).ok());
  auto other = open();
  auto all = other->datasets();
  ASSERT_TRUE(all.ok());
  ASSERT_EQ(all->size(), 2u);
  EXPECT_EQ((*all)[0].name, "a");
  EXPECT_EQ((*all)[1].source, "s3://bucket/b/");
  EXPECT_EQ((*all)[1].options, (StoreOptions{{"region", "eu-west-1"}}));
  EXPECT_EQ((*all)[1].group, "ml");
  EXPECT_EQ((*all)[1].id, 7u);
  EXPECT_FALSE(other->get_dataset("c")->has_value());
}

TEST_F(LocalMetaTest, ADatasetKeepsItsSource) {
  auto one = def("a");
  one.id = 0xfedcba9876543210ULL;
  ASSERT_TRUE(meta_->put_dataset(one).ok());
  EXPECT_EQ((*meta_->get_dataset("a"))->id, one.id);
  one.options["region"] = "cn-north-1";
  EXPECT_TRUE(meta_->put_dataset(one).ok());
  EXPECT_EQ((*meta_->get_dataset("a"))->options["region"], "cn-north-1");
  one.source = "s3://other/";
  auto status = meta_->put_dataset(one);
  EXPECT_EQ(status.error().code, EEXIST);
  EXPECT_NE(status.error().message.find("s3://bucket/a/"), std::string::npos);
}

TEST_F(LocalMetaTest, NamesAndSecretsAreChecked) {
  for (const char* name : {"", ".a", "-a", "a/b", "a b", "ä", "a\n"}) {
    auto bad = def("x");
    bad.name = name;
    EXPECT_EQ(meta_->put_dataset(bad).error().code, EINVAL) << name;
  }
  auto long_name = def(std::string(64, 'a'));
  EXPECT_EQ(meta_->put_dataset(long_name).error().code, EINVAL);
  auto secret = def("x");
  secret.options["secret_key"] = "hush-hush";
  auto status = meta_->put_dataset(secret);
  EXPECT_EQ(status.error().code, EINVAL);
  EXPECT_EQ(status.error().message.find("hush-hush"), std::string::npos);
}

TEST_F(LocalMetaTest, AVersionComesBackWhole) {
  ASSERT_TRUE(meta_->put_dataset(def("a")).ok());
  EXPECT_FALSE(meta_->current("a")->has_value());
  for (uint64_t objects :
       {uint64_t{0}, uint64_t{1}, uint64_t{kSegmentObjects}, uint64_t{kSegmentObjects + 1}, uint64_t{50'000}}) {
    auto info = publish(*meta_, "a", objects);
    auto current = meta_->current("a");
    ASSERT_TRUE(current.ok() && current->has_value());
    EXPECT_EQ((*current)->version, info.version);
    EXPECT_EQ((*current)->objects, objects);
    EXPECT_EQ((*current)->skipped, 3u);
    EXPECT_EQ((*current)->bytes, info.bytes);
    auto loaded = count(*meta_, "a", info.version);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    EXPECT_EQ(*loaded, objects);
  }
}

TEST_F(LocalMetaTest, TheNewestTwoVersionsStayAndOlderOnesGo) {
  ASSERT_TRUE(meta_->put_dataset(def("a")).ok());
  ASSERT_TRUE(meta_->put_dataset(def("b")).ok());
  publish(*meta_, "b", 5);
  for (uint64_t v = 1; v <= 4; ++v) EXPECT_EQ(publish(*meta_, "a", 20'000, v).version, v);
  EXPECT_EQ(count(*meta_, "a", 2).error().code, ENOENT);
  EXPECT_EQ(*count(*meta_, "a", 3, 3), 20'000u);
  EXPECT_EQ(*count(*meta_, "a", 4, 4), 20'000u);
  EXPECT_EQ(*count(*meta_, "b", 1), 5u);
}

TEST_F(LocalMetaTest, ALoadThatBeganFinishesThoughItsVersionIsDropped) {
  ASSERT_TRUE(meta_->put_dataset(def("a")).ok());
  publish(*meta_, "a", 50'000);
  uint64_t seen = 0;
  auto status = meta_->load("a", 1, [&](ObjectInfo&&) -> Status {
    if (seen++ == 0) {
      for (int i = 0; i < 3; ++i) publish(*meta_, "a", 10);
    }
    return {};
  });
  EXPECT_TRUE(status.ok()) << status.error().message;
  EXPECT_EQ(seen, 50'000u);
  EXPECT_EQ(count(*meta_, "a", 1).error().code, ENOENT);
}

TEST_F(LocalMetaTest, AWriterThatIsDroppedOrFailsLeavesNothing) {
  ASSERT_TRUE(meta_->put_dataset(def("a")).ok());
  {
    auto writer = meta_->write_version("a");
    for (uint64_t i = 0; i < 40'000; ++i) ASSERT_TRUE((*writer)->add(object_of(i)).ok());
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

TEST_F(LocalMetaTest, RemovingADatasetWhileItIsListedPublishesNothing) {
  ASSERT_TRUE(meta_->put_dataset(def("a")).ok());
  auto writer = meta_->write_version("a");
  ASSERT_TRUE((*writer)->add(object_of(0)).ok());
  ASSERT_TRUE(open()->remove_dataset("a").ok());
  EXPECT_EQ((*writer)->commit(0).error().code, ENOENT);
  EXPECT_EQ(meta_->remove_dataset("a").error().code, ENOENT);
  ASSERT_TRUE(meta_->put_dataset(def("a")).ok());
  EXPECT_FALSE(meta_->current("a")->has_value());
}

TEST_F(LocalMetaTest, TheReceiversErrorEndsALoad) {
  ASSERT_TRUE(meta_->put_dataset(def("a")).ok());
  publish(*meta_, "a", 100);
  int seen = 0;
  auto status = meta_->load("a", 1, [&](ObjectInfo&&) -> Status {
    if (++seen == 10) return make_error(ENOSPC, "full");
    return {};
  });
  EXPECT_EQ(status.error().code, ENOSPC);
  EXPECT_EQ(status.error().message, "full");
  EXPECT_EQ(seen, 10);
}

// kill -9 at many moments of publishing: what is there afterwards is version 1 or version 2, never a part.
TEST_F(LocalMetaTest, AKilledWriterLeavesAWholeVersion) {
  ASSERT_TRUE(meta_->put_dataset(def("a")).ok());
  publish(*meta_, "a", 20'000, 1);
  int published = 0, unpublished = 0;
  uint64_t last = 1;
  for (int round = 0; round < 40; ++round) {
    int ready[2];
    ASSERT_EQ(pipe(ready), 0);
    const pid_t child = fork();
    if (child == 0) {
      auto meta = open_meta("local://" + dir_.path() + "/state/deep", "");
      auto writer = (*meta)->write_version("a");
      for (uint64_t i = 0; i < 40'000; ++i) (void)(*writer)->add(object_of(i, 2));
      (void)!write(ready[1], "x", 1);
      (void)(*writer)->commit(0);
      (void)!write(ready[1], "y", 1);
      _exit(0);
    }
    char c;
    if (round % 4 != 0) {
      ASSERT_EQ(read(ready[0], &c, 1), 1);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(round % 4 == 0 ? round * 3000 : round * 150));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    close(ready[0]);
    close(ready[1]);
    auto now = meta_->current("a");
    ASSERT_TRUE(now.ok()) << now.error().message;
    const uint64_t version = (*now)->version;
    ASSERT_TRUE(version == last || version == last + 1);
    (version == last ? unpublished : published)++;
    const uint64_t seed = version == 1 ? 1 : 2;
    auto loaded = count(*meta_, "a", version, seed);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    EXPECT_EQ(*loaded, version == 1 ? 20'000u : 40'000u);
    last = version;
  }
  EXPECT_GT(unpublished, 0) << "the kills came too late to prove anything";
  EXPECT_TRUE(meta_->put_dataset(def("b")).ok()) << "no lock is left behind";
  RecordProperty("published", published);
}

TEST_F(LocalMetaTest, TwoProcessesPublishAtOnceAndNothingIsLost) {
  ASSERT_TRUE(meta_->put_dataset(def("a")).ok());
  std::vector<pid_t> children;
  for (int p = 0; p < 3; ++p) {
    const pid_t child = fork();
    if (child == 0) {
      auto meta = open_meta("local://" + dir_.path() + "/state/deep", "");
      bool good = meta.ok();
      for (int i = 0; good && i < 5; ++i) {
        auto writer = (*meta)->write_version("a");
        good = writer.ok();
        for (uint64_t k = 0; good && k < 20'000; ++k) good = (*writer)->add(object_of(k)).ok();
        good = good && (*writer)->commit(0).ok();
      }
      _exit(good ? 0 : 1);
    }
    children.push_back(child);
  }
  for (pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  EXPECT_EQ((*meta_->current("a"))->version, 15u);
  EXPECT_EQ(*count(*meta_, "a", 15), 20'000u);
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

TEST_F(LocalMetaTest, FilesAreTheUsersOwnAndUrlsAreChecked) {
  struct stat st {};
  ASSERT_EQ(stat(file().c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 077, 0u);
  ASSERT_EQ(stat((dir_.path() + "/state").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 077, 0u);
  auto redis = open_meta("postgres://:password@host/0", dir_.path());
  ASSERT_FALSE(redis.ok());
  EXPECT_EQ(redis.error().code, EINVAL);
  EXPECT_EQ(redis.error().message.find("password"), std::string::npos);
  EXPECT_FALSE(open_meta("local://relative", dir_.path()).ok());
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
