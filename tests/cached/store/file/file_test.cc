// file:///dir: the same files a program would find by walking the folder, in byte order, and never a mix of two
// versions.
#include "cached/store/file/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/fanotify.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <future>

#include "tests/cached/store/http/live_server.h"

namespace larder {
namespace {

using namespace larder::testing;
namespace fs = std::filesystem;

class FileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto store = open_store("file://" + dir_.path(), {});
    ASSERT_TRUE(store.ok()) << store.error().message;
    store_ = std::move(*store);
  }
  void write(const std::string& key, const std::string& data) {
    const fs::path path = fs::path(dir_.path()) / key;
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << data;
  }
  std::vector<std::string> keys() {
    auto listed = list_all(*store_);
    EXPECT_TRUE(listed.ok()) << listed.error().message;
    std::vector<std::string> out;
    for (auto& object : *listed)
      out.push_back(object.key);
    return out;
  }
  // Waits until a change of `file` would get another time than the last one.
  void pass_a_tick(const std::string& file) {
    const std::string probe = file + ".tick";
    struct stat last {
    }, now{};
    ASSERT_EQ(stat(file.c_str(), &last), 0);
    do {
      std::ofstream(probe) << "x";
      ASSERT_EQ(stat(probe.c_str(), &now), 0);
      fs::remove(probe);
    } while (now.st_ctim.tv_sec == last.st_ctim.tv_sec && now.st_ctim.tv_nsec == last.st_ctim.tv_nsec);
  }
  // 0, or the number of the check that failed. In a child: no threads of the parent's may be needed.
  int unreadable_folder() {
    const std::vector<std::string> rest{"train/1", "train/lost+found"};
    const auto listing = [&](const StoreOptions& options, uint64_t* unreadable, Error* error) {
      auto store = open_store("file://" + dir_.path(), options);
      auto listed = list_all(**store);
      if (unreadable) *unreadable = dynamic_cast<FileStore&>(**store).unreadable();
      std::vector<std::string> out;
      if (!listed.ok()) return *error = listed.error(), out;
      for (auto& object : *listed)
        out.push_back(object.key);
      return out;
    };
    Error error;
    uint64_t unreadable = 0;
    listing({}, nullptr, &error);
    if (error.code != EACCES || error.message.find("lost+found") == std::string::npos) return 1;
    if (error.message.find("unreadable=skip") == std::string::npos) return 2;
    if (listing({{"exclude", "lost+found/"}}, &unreadable, &error) != rest || unreadable != 0) return 3;
    if (listing({{"unreadable", "skip"}}, &unreadable, &error) != rest || unreadable != 1) return 4;
    FileStore unwanted(dir_.path(), 1);
    Filter filter;
    if (!filter.add(false, "/lost+found/").ok()) return 5;
    unwanted.set_unwanted(filter);
    if (!list_all(unwanted).ok()) return 6;
    Filter includes_below;
    if (!includes_below.add(true, "*.jpg").ok() || !includes_below.add(false, "/lost+found/").ok()) return 7;
    unwanted.set_unwanted(includes_below);
    return list_all(unwanted).ok() ? 8 : 0;
  }

  uint64_t skipped() { return dynamic_cast<FileStore&>(*store_).skipped(); }

  TempDir dir_;
  std::unique_ptr<Store> store_;
};

TEST_F(FileTest, KeysComeInByteOrderOfTheWholeKey) {
  for (const char* key :
       {"a/b", "a-b", "a.txt", "a0", "a/c/d", "a/c-", "Z", "ü", "\xff\xfe raw", "new\nline", "sp ace", "q?%+", "b/"}) {
    if (std::string(key) != "b/") write(key, key);
  }
  fs::create_directory(dir_.path() + "/b");
  EXPECT_EQ(keys(), (std::vector<std::string>{"Z", "a-b", "a.txt", "a/b", "a/c-", "a/c/d", "a0", "b/", "new\nline",
                                              "q?%+", "sp ace", "ü", "\xff\xfe raw"}));
}

// S6: an empty folder of a `file://` source is shown.
TEST_F(FileTest, AFolderBelowWhichNothingIsShownIsShownItself) {
  write("c/file", "x");
  write("only/excluded.tmp", "x");
  fs::create_directories(dir_.path() + "/a/b/c");
  fs::create_directories(dir_.path() + "/loop");
  fs::create_directories(dir_.path() + "/secret/inner");
  fs::create_directory_symlink("..", dir_.path() + "/loop/up");
  ASSERT_EQ(mkfifo((dir_.path() + "/pipe").c_str(), 0600), 0);
  store_ = std::move(*open_store("file://" + dir_.path(), {{"exclude", "*.tmp secret/"}}));
  EXPECT_EQ(keys(), (std::vector<std::string>{"a/b/c/", "c/file", "loop/", "only/"}));
  auto listed = list_all(*store_);
  struct stat st {};
  ASSERT_EQ(stat((dir_.path() + "/a/b/c").c_str(), &st), 0);
  EXPECT_EQ(listed->front().size, 0u);
  EXPECT_EQ(listed->front().mtime_ns / 1'000'000'000, st.st_mtim.tv_sec);
  dynamic_cast<FileStore&>(*store_).set_files_only();
  EXPECT_EQ(keys(), (std::vector<std::string>{"c/file"}));
}

TEST_F(FileTest, FillThatAProgramWaitsForOvertakesFill) {
  write("x", "x");
  write("hurried", "x");
  store_ = std::move(*open_store("file://" + dir_.path(), {{"max_connections", "1"}}));
  std::promise<void> gate, all;
  auto opened = gate.get_future().share();
  std::atomic<int> left{200}, left_at_hurried{200};
  for (int i = 0; i < 200; ++i) {
    GetRequest request;
    request.key = i < 199 ? "x" : "hurried";
    request.length = request.object_size = 1;
    request.demand = false;
    request.on_data = [opened](auto) -> Status { return opened.wait(), Status(); };
    request.on_done = [&, i](Status) {
      if (i == 199) left_at_hurried = left.load();
      if (--left == 0) all.set_value();
    };
    store_->get(std::move(request));
  }
  store_->hurry("hurried");
  gate.set_value();
  all.get_future().get();
  EXPECT_GE(left_at_hurried, 199) << "it was the last of two hundred";
}

TEST_F(FileTest, ContentIsReadWholeAndInRanges) {
  const std::string data = pattern(5'000'000);
  write("big", data);
  write("empty", "");
  auto listed = *list_all(*store_);
  EXPECT_EQ(get_all(*store_, listed[0]).data, data);
  EXPECT_EQ(get_all(*store_, listed[1]).data, "");
  EXPECT_TRUE(get_all(*store_, listed[1]).status.ok());
  auto part = get_range(*store_, listed[0], 1'048'575, 2'000'001);
  EXPECT_TRUE(part.status.ok());
  EXPECT_EQ(part.data, data.substr(1'048'575, 2'000'001));
  auto head = store_->head("big");
  ASSERT_TRUE(head.ok());
  EXPECT_EQ(head->etag, listed[0].etag);
  EXPECT_EQ(head->size, 5'000'000u);
  EXPECT_EQ(head->mtime_ns, listed[0].mtime_ns);
}

TEST_F(FileTest, SymlinksAreFollowedLoopsAndSpecialFilesAreCounted) {
  TempDir outside;
  std::ofstream(outside.path() + "/far") << "far";
  write("real/file", "x");
  fs::create_symlink("real/file", dir_.path() + "/link");
  fs::create_directory_symlink("real", dir_.path() + "/dirlink");
  fs::create_directory_symlink(outside.path(), dir_.path() + "/outside");
  EXPECT_EQ(keys(), (std::vector<std::string>{"dirlink/file", "link", "outside/far", "real/file"}));
  EXPECT_EQ(skipped(), 0u);
  fs::create_directory_symlink("..", dir_.path() + "/real/up");
  fs::create_symlink("nowhere", dir_.path() + "/dangling");
  fs::create_symlink("self", dir_.path() + "/self");
  ASSERT_EQ(mkfifo((dir_.path() + "/pipe").c_str(), 0600), 0);
  EXPECT_EQ(keys(), (std::vector<std::string>{"dirlink/file", "link", "outside/far", "real/file"}));
  EXPECT_EQ(skipped(), 5u) << "up through real and through dirlink, dangling, self, pipe";
  EXPECT_EQ(get_all(*store_, {"pipe", 0, 0, ""}).status.error().code, ESTALE) << "and does not hang";
}

// Who may write into a source must not be able to show root's files through root's daemon.
TEST_F(FileTest, LinksThatLeadOutAreNotFollowedInside) {
  TempDir outside;
  std::ofstream(outside.path() + "/far") << "far";
  write("real/file", "x");
  fs::create_symlink("real/file", dir_.path() + "/link");
  fs::create_symlink(fs::canonical(dir_.path()).string() + "/real/file", dir_.path() + "/absolute");
  fs::create_directory_symlink("real", dir_.path() + "/dirlink");
  fs::create_directory_symlink(outside.path(), dir_.path() + "/out");
  fs::create_symlink(outside.path() + "/far", dir_.path() + "/real/far");
  fs::create_symlink("../../../../../../../etc/passwd", dir_.path() + "/climbs");
  fs::create_directory(dir_.path() + "x");  // a name that begins as the source's does
  std::ofstream(dir_.path() + "x/f") << "x";
  fs::create_symlink(dir_.path() + "x/f", dir_.path() + "/beside");
  store_ = std::make_unique<FileStore>(dir_.path(), 2, FileListing{Symlinks::kInside, {}, false});
  EXPECT_EQ(keys(), (std::vector<std::string>{"absolute", "dirlink/file", "link", "real/file"}));
  EXPECT_EQ(skipped(), 5u) << "out, real/far twice, climbs, beside";
  for (const char* key : {"out/far", "real/far", "climbs", "beside"})
    EXPECT_EQ(store_->head(key).error().code, ENOENT) << key;
  EXPECT_TRUE(store_->head("dirlink/file").ok());
  fs::remove_all(dir_.path() + "x");
}

TEST_F(FileTest, AChangedFileIsStale) {
  write("f", "first");
  auto object = (*list_all(*store_))[0];
  write("f", "other");
  auto got = get_all(*store_, object);
  EXPECT_EQ(got.status.error().code, ESTALE);
  EXPECT_EQ(got.data, "");
  object = (*list_all(*store_))[0];
  EXPECT_EQ(get_all(*store_, object).data, "other");
  fs::remove(dir_.path() + "/f");
  EXPECT_EQ(get_all(*store_, object).status.error().code, ENOENT);
  EXPECT_EQ(store_->head("f").error().code, ENOENT);
}

TEST_F(FileTest, AFileThatChangesWhileItIsReadIsStale) {
  write("f", pattern(4'000'000));
  auto object = (*list_all(*store_))[0];
  std::promise<Status> done;
  GetRequest request{object.key, object.etag, 0, object.size, object.size, true, nullptr, nullptr};
  bool changed = false;
  request.on_data = [&](auto) -> Status {
    if (!std::exchange(changed, true)) {
      const int fd = ::open((dir_.path() + "/f").c_str(), O_WRONLY);
      EXPECT_EQ(pwrite(fd, "x", 1, 3'999'999), 1);
      close(fd);
    }
    return {};
  };
  request.on_done = [&](Status status) { done.set_value(std::move(status)); };
  store_->get(std::move(request));
  EXPECT_EQ(done.get_future().get().error().code, ESTALE);
  object = (*list_all(*store_))[0];
  fs::resize_file(dir_.path() + "/f", 10);
  EXPECT_EQ(get_all(*store_, object).status.error().code, ESTALE);
}

// Size and mtime are the program's to set, and a file system gives inode numbers again. What is left is the ctime.
TEST_F(FileTest, AVersionWithTheSameSizeAndTimeIsAnother) {
  const std::string f = dir_.path() + "/f", other = dir_.path() + "/other";
  const auto put_back = [&](const std::string& path, const struct stat& was) {
    const timespec times[] = {was.st_atim, was.st_mtim};
    ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
  };
  const auto in_place = [&](const std::string& path, const std::string& data) {
    const int fd = ::open(path.c_str(), O_WRONLY);
    ASSERT_EQ(pwrite(fd, data.data(), data.size(), 0), static_cast<ssize_t>(data.size()));
    close(fd);
  };
  const std::vector<std::pair<const char*, std::function<void(const struct stat&)>>> ways = {
      {"written in place, as rsync --inplace -t", [&](auto&) { in_place(f, "newer"); }},
      {"unpacked over it", [&](auto&) { fs::remove(f), write("f", "newer"); }},
      {"moved over it, as rsync -t",
       [&](auto& was) { write("other", "newer"), put_back(other, was), fs::rename(other, f); }},
      {"hard links swapped",
       [&](auto& was) {
         write("other", "newer");
         put_back(other, was);
         fs::remove(f);
         fs::create_hard_link(other, f);
         fs::remove(other);
       }},
      {"written through another of its names",
       [&](auto&) {
         fs::create_hard_link(f, other);
         in_place(other, "newer");
         fs::remove(other);
       }},
  };
  for (const auto& [how, change] : ways) {
    write("f", "first");
    const auto listed = list_all(*store_)->front();
    struct stat was {};
    ASSERT_EQ(stat(f.c_str(), &was), 0);
    pass_a_tick(f);
    change(was);
    put_back(f, was);
    const auto now = list_all(*store_)->front();
    EXPECT_EQ(now.mtime_ns, listed.mtime_ns) << how;
    EXPECT_EQ(now.size, listed.size) << how;
    EXPECT_NE(now.etag, listed.etag) << how;
    EXPECT_EQ(get_all(*store_, listed).status.error().code, ESTALE) << how;
    EXPECT_EQ(get_all(*store_, now).data, "newer") << how;
  }
}

// What may not be read fails the listing, unless it is left out or the option says to go on; both are told.
TEST_F(FileTest, AFolderThatMayNotBeRead) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to become somebody else";
  write("lost+found/x", "x");
  write("train/1", "1");
  write("train/lost+found", "a file of that name");
  fs::permissions(dir_.path(), fs::perms(0755));
  fs::permissions(dir_.path() + "/lost+found", fs::perms(0700));
  const pid_t child = fork();
  if (child == 0) {
    const bool other = setgid(65534) == 0 && setuid(65534) == 0;
    _exit(other ? unreadable_folder() : 99);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(FileTest, KeysThatLeadOutOfTheDirectoryAreNotOpened) {
  write("f", "x");
  for (const char* key : {"../f", "a/../../etc/passwd", "/etc/passwd", "./f", "a//f", "", "f/", ".."}) {
    EXPECT_EQ(get_all(*store_, {key, 1, 0, ""}).status.error().code, ENOENT) << key;
    EXPECT_EQ(store_->head(key).error().code, ENOENT) << key;
  }
}

TEST_F(FileTest, VeryLongPathsAreListedAndRead) {
  std::string key;
  int at = ::open(dir_.path().c_str(), O_RDONLY | O_DIRECTORY);
  const std::string part(200, 'd');
  for (int i = 0; i < 30; ++i) {
    ASSERT_EQ(mkdirat(at, part.c_str(), 0700), 0);
    const int next = openat(at, part.c_str(), O_RDONLY | O_DIRECTORY);
    close(at);
    at = next;
    key += part + "/";
  }
  const int fd = openat(at, "f", O_WRONLY | O_CREAT, 0600);
  ASSERT_EQ(::write(fd, "deep", 4), 4);
  close(fd);
  close(at);
  auto listed = *list_all(*store_);
  ASSERT_EQ(listed.size(), 1u);
  EXPECT_EQ(listed[0].key, key + "f");
  EXPECT_EQ(get_all(*store_, listed[0]).data, "deep");
}

TEST_F(FileTest, DirectoryThatIsMissingOrNoDirectoryIsToldAtOnce) {
  write("f", "x");
  auto missing = open_store("file://" + dir_.path() + "/nope", {});
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ENOENT);
  EXPECT_NE(missing.error().message.find("/nope"), std::string::npos);
  EXPECT_EQ(open_store("file://" + dir_.path() + "/f", {}).error().code, ENOTDIR);
}

// Reads of one file block, as from a file server that hangs: until this is destroyed. Needs CAP_SYS_ADMIN.
class HungFile {
 public:
  explicit HungFile(const std::string& path) : fd_(fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, O_RDONLY)) {
    works_ = fd_ >= 0 && fanotify_mark(fd_, FAN_MARK_ADD, FAN_ACCESS_PERM, AT_FDCWD, path.c_str()) == 0;
  }
  ~HungFile() { close(fd_); }
  bool works() const { return works_; }

 private:
  int fd_;
  bool works_;
};

TEST_F(FileTest, AFileServerThatHangsIsAnErrorAndKeepsNobodyElse) {
  write("hung", "x");
  write("queued", "y");
  auto hung = std::make_unique<HungFile>(dir_.path() + "/hung");
  if (!hung->works()) GTEST_SKIP() << "no fanotify permission events here";
  store_ = std::move(*open_store("file://" + dir_.path(), {{"max_connections", "1"}, {"stall_timeout_ms", "200"}}));
  const auto objects = *list_all(*store_);
  std::promise<Status> first, second;
  const auto ask = [&](const ObjectInfo& object, std::promise<Status>& done) {
    GetRequest request;
    request.key = object.key;
    request.etag = object.etag;
    request.length = request.object_size = object.size;
    request.on_data = [](auto) { return Status(); };
    request.on_done = [&done](Status status) { done.set_value(std::move(status)); };
    store_->get(std::move(request));
  };
  ask(objects[0], first);
  ask(objects[1], second);  // its only thread hangs
  EXPECT_EQ(first.get_future().get().error().code, EIO);
  EXPECT_EQ(second.get_future().get().error().code, EIO);
  EXPECT_EQ(store_->counters().in_flight, 1u);  // what the daemon must not destroy yet
  hung.reset();
  std::promise<Status> third;
  ask(objects[1], third);
  EXPECT_TRUE(third.get_future().get().ok());
}

TEST_F(FileTest, AnUnreadableFolderIsAnErrorNotAShorterDataset) {
  if (geteuid() == 0) {  // root reads everything: drop the rights in a child
    write("locked/f", "x");
    fs::permissions(dir_.path() + "/locked", fs::perms::none);
    fs::permissions(dir_.path(), fs::perms::all);
    const pid_t child = fork();
    if (child == 0) {
      if (setgid(65534) != 0 || setuid(65534) != 0) _exit(2);
      FileStore store(dir_.path(), 0);
      auto status = store.list([](auto&&) -> Status { return {}; });
      _exit(!status.ok() && status.error().code == EACCES ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_EQ(WEXITSTATUS(status), 0);
    return;
  }
  write("locked/f", "x");
  fs::permissions(dir_.path() + "/locked", fs::perms::none);
  EXPECT_EQ(list_all(*store_).error().code, EACCES);
  fs::permissions(dir_.path() + "/locked", fs::perms::all);
}

}  // namespace
}  // namespace larder
