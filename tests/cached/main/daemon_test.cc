// The daemon as a process: real file:// store, real metadata, real kill -9.
#include "cached/main/daemon.h"

#include <gmock/gmock.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include <fstream>
#include <random>

#include "tests/cached/client.h"
#include "tests/cached/fakes.h"

namespace larder {
namespace {

using namespace test;
using nlohmann::json;

class DaemonTest : public ::testing::Test {
 protected:
  DaemonTest() {
    ::signal(SIGIO, SIG_IGN);
    config.is_private = true;
    config.socket = t / "s/larder.sock";
    config.cache_dir = t / "cache";
    config.state_dir = t / "state";
    config.cache_size = SizeSpec{64 << 20, 0};
    config.fill = Fill::kOff;
    config.log_level = "error";
    std::mt19937 random(1);
    for (int i = 0; i < 500; ++i) {
      std::string body(random() % 20000 + 1, 0);
      for (char& c : body)
        c = static_cast<char>(random());
      write(fmt::format("n{:02}/f{:04}", i % 20, i), body);
    }
  }
  ~DaemonTest() override { end(SIGKILL); }

  void write(const std::string& name, const std::string& body) {
    std::filesystem::path path = t / ("src/" + name);
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary | std::ios::trunc) << body;
    files[name] = body;
  }
  void start() {
    pid = ::fork();
    if (pid == 0) {
      prepare_process();
      Status s = set_up_log("", config.log_level);
      if (s)
        s = run_daemon(config, [](std::string_view source, const StoreOptions& o) { return open_store(source, o); });
      if (!s) fprintf(stderr, "%s\n", s.error().message.c_str());
      ::_exit(s ? 0 : 1);
    }
    ASSERT_TRUE(eventually([&] { return !ask(config.socket, Op::kAdmin, 0, {}, "{\"op\":\"ping\"}").closed; }));
  }
  int end(int signal) {
    if (pid <= 0) return 0;
    ::kill(pid, signal);
    int status = 0;
    ::waitpid(pid, &status, 0);
    pid = 0;
    return status;
  }
  void mount() {
    int status = -1;
    json r = admin(config.socket, {{"op", "mount"}, {"path", "/data/x"}, {"source", "file://" + (t / "src")}}, &status);
    ASSERT_EQ(status, 0) << r;
    EXPECT_EQ(r["objects"], files.size());
    greet();
  }
  // Opens what a program opens.
  void greet() {
    Answer hello = ask(config.socket, Op::kHello);
    ASSERT_EQ(hello.header.status, 0);
    cache = Fd(::openat(hello.fds[0].get(), ".", O_RDONLY | O_DIRECTORY));
    Fd fd(::openat(cache.get(), "control", O_RDONLY));
    control = must(Mapping::map(fd.get(), sizeof(Control), false));
    ASSERT_EQ(hello.fds.size(), 2 + c().mount_count);
    open_catalog();
  }
  void open_catalog() {
    const ControlMount& m = c().mounts[0];
    Fd fd(::openat(cache.get(), fmt::format("{:016x}/catalog.{:016x}", m.dataset_id, m.version).c_str(), O_RDONLY));
    struct stat st;
    ASSERT_EQ(::fstat(fd.get(), &st), 0);
    catalog_map = must(Mapping::map(fd.get(), static_cast<size_t>(st.st_size), false));
    ASSERT_TRUE(catalog.attach(catalog_map.data(), catalog_map.size()));
  }
  const Control& c() { return *static_cast<const Control*>(control.data()); }
  ObjectId oid(const std::string& name) { return catalog.entries[catalog.find(name.data(), name.size())].oid; }
  Answer fetch(const std::string& name) {
    return ask(config.socket, Op::kFetch, c().mounts[0].dataset_id, oid(name), name);
  }
  json status() { return admin(config.socket, {{"op", "status"}}); }
  // Opens a resident file as a program does, without the daemon.
  Fd open_cached(const std::string& name) {
    char hex[33];
    object_name(oid(name), hex);
    return Fd(::openat(cache.get(), fmt::format("{:016x}/{}", c().mounts[0].dataset_id, hex).c_str(), O_RDONLY));
  }

  TempFolder t;
  Config config;
  pid_t pid = 0;
  std::map<std::string, std::string> files;
  Fd cache;
  Mapping control, catalog_map;
  Catalog catalog;
};

TEST_F(DaemonTest, EightProcessesOpeningTheSameFilesCauseOneGetEach) {
  start();
  mount();
  std::vector<pid_t> readers;
  for (int r = 0; r < 8; ++r) {
    pid_t reader = ::fork();
    if (reader == 0) {
      std::vector<std::string> names;
      for (auto& [name, body] : files)
        names.push_back(name);
      std::shuffle(names.begin(), names.end(), std::mt19937(static_cast<unsigned>(r)));
      bool good = true;
      for (auto& name : names) {
        Answer a = fetch(name);
        good = good && a.fds.size() == 1 && content(a.fds[0]) == files[name];
      }
      ::_exit(good ? 0 : 1);
    }
    readers.push_back(reader);
  }
  for (pid_t reader : readers) {
    int status = 1;
    ::waitpid(reader, &status, 0);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(status()["store"]["gets"], 500);
  EXPECT_EQ(status()["mounts"][0]["cached_files"], 500);
}

TEST_F(DaemonTest, KilledInTheMiddleItTakesOverWhatWasThere) {
  start();
  mount();
  uint64_t generation = c().generation, instance = c().instance;
  int n = 0;
  for (auto& [name, body] : files)
    ASSERT_TRUE(n++ >= 250 || content(fetch(name).fds.at(0)) == body) << name;
  end(SIGKILL);
  EXPECT_EQ(content(open_cached(files.begin()->first)), files.begin()->second);  // a dead daemon loses nothing
  start();
  EXPECT_EQ(c().instance, instance);
  EXPECT_GT(c().generation.load(), generation);  // in the mapping that a program kept
  EXPECT_EQ(c().epoch, 2u);
  for (auto& [name, body] : files)
    ASSERT_EQ(content(fetch(name).fds.at(0)), body);
  EXPECT_EQ(status()["store"]["gets"], 250);
  EXPECT_EQ(end(SIGTERM), 0);
  EXPECT_FALSE(std::filesystem::exists(config.socket));
}

TEST_F(DaemonTest, ARefreshReachesProgramsThatRun) {
  start();
  mount();
  const std::string name = files.begin()->first;
  Answer old = fetch(name);
  std::string before = files[name];
  uint64_t generation = c().generation;
  write(name, "new content");
  write("n00/added", "added");
  json r = admin(config.socket, {{"op", "refresh"}, {"name", status()["mounts"][0]["dataset"]}});
  EXPECT_EQ(r["added"], 1);
  EXPECT_EQ(r["changed"], 1);
  EXPECT_GT(c().generation.load(), generation);
  EXPECT_EQ(fetch(name).header.status, ESTALE);  // the caller's catalog is old
  EXPECT_EQ(content(old.fds[0]), before);
  open_catalog();
  EXPECT_EQ(content(fetch(name).fds.at(0)), "new content");
  EXPECT_EQ(content(fetch("n00/added").fds.at(0)), "added");
}

TEST_F(DaemonTest, WarmEvictCheckAndErrors) {
  start();
  mount();
  int code = -1;
  json r = admin(config.socket, {{"op", "warm"}, {"path", "/data/x/n01"}, {"jobs", 4}}, &code);
  EXPECT_EQ(r["fetched"], 25) << r;
  Answer held = fetch("n01/f0001");
  r = admin(config.socket, {{"op", "evict"}, {"path", "/data/x"}});
  EXPECT_EQ(r["files"], 24);
  EXPECT_EQ(r["busy"], 1);
  r = admin(config.socket, {{"op", "check"}});
  EXPECT_EQ(r["files"], 1);
  EXPECT_TRUE(r["corrupt"].empty());
  const std::pair<json, int> bad[] = {
      {{{"op", "warm"}, {"path", "/data/x/none"}}, ENOENT},
      {{{"op", "warm"}, {"path", "/elsewhere"}}, ENOENT},
      {{{"op", "warm"}}, EINVAL},
      {{{"op", "mount"}, {"path", "/data/x"}, {"source", "file:///etc"}}, EEXIST},
      {{{"op", "mount"}, {"path", "/data/y"}, {"source", "file:///nonexistent-dir"}}, ENOENT},
      {{{"op", "mount"}, {"path", "/data/y"}, {"source", 5}}, EINVAL},
      {{{"op", "umount"}, {"path", "/data/y"}}, ENOENT},
      {{{"op", "refresh"}, {"name", "nobody"}}, ENOENT},
      {{{"op", "unheard"}}, ENOSYS},
      {json::array(), EINVAL},
  };
  for (auto& [request, expected] : bad) {
    r = admin(config.socket, request, &code);
    EXPECT_EQ(code, expected) << request << r;
    EXPECT_FALSE(r["error"].get<std::string>().empty());
  }
  EXPECT_EQ(status()["datasets"].size(), 1u);
}

TEST_F(DaemonTest, APrivateDaemonGoesWhenNobodyIsThere) {
  config.linger_s = 1;
  start();
  Fd fd(::open((t / "cache/presence").c_str(), O_RDONLY | O_CLOEXEC));
  auto program = std::make_unique<Mapping>(must(Mapping::map(fd.get(), 4096, false)));
  fd.reset();
  mount();
  std::this_thread::sleep_for(std::chrono::milliseconds(2500));
  EXPECT_EQ(::waitpid(pid, nullptr, WNOHANG), 0);  // a program is there
  program.reset();
  int status = 1;
  EXPECT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
  pid = 0;
}

// Another program fills the file system: pwrite returns ENOSPC, and nothing gets SIGBUS.
TEST_F(DaemonTest, AFullFileSystemIsMetByEvicting) {
  std::filesystem::create_directory(t / "small");
  if (::mount("none", (t / "small").c_str(), "tmpfs", 0, "size=8m") != 0)
    GTEST_SKIP() << "needs root to mount a small tmpfs";
  config.cache_dir = t / "small/cache";
  config.cache_size = SizeSpec{7 << 20, 0};
  config.reserve = SizeSpec{4096, 0};
  start();
  mount();
  int n = 0;
  for (auto& [name, body] : files)
    ASSERT_TRUE(n++ >= 300 || content(fetch(name).fds.at(0)) == body) << name;
  {
    std::ofstream hog(t / "small/hog", std::ios::binary);
    while (hog << std::string(4096, 'x') << std::flush) {
    }
  }
  for (auto& [name, body] : files) {
    Answer a = fetch(name);
    ASSERT_EQ(a.header.status, 0) << name;
    ASSERT_EQ(content(a.fds.at(0)), body);
  }
  cache.reset();
  control = Mapping();
  catalog_map = Mapping();
  end(SIGKILL);
  ::umount2((t / "small").c_str(), MNT_DETACH);
}

}  // namespace
}  // namespace larder
