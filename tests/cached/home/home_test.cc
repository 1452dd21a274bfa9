// What a user would lose: a cache that others read, change or lock; a cache that is gone because larderd ended.
#include "cached/home/home.h"

#include <gmock/gmock.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <filesystem>

#include "cached/base/files.h"
#include "larder/names.h"

namespace larder {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr uint64_t kMiB = 1 << 20;

struct HomeTest : testing::Test {
  HomeTest() : folder(fs::temp_directory_path() / ("larder-home-" + std::to_string(getpid()))) {
    fs::create_directory(folder);
  }
  ~HomeTest() override { fs::remove_all(folder); }
  std::string path(const char* name) const { return folder / name; }
  static mode_t mode_of(const std::string& name) {
    struct stat st = {};
    stat(name.c_str(), &st);
    return st.st_mode & 07777;
  }

  fs::path folder;
};

TEST_F(HomeTest, a_private_folder_is_for_its_user_alone) {
  ASSERT_TRUE(Home::folder(path("new"), 0700).ok());
  EXPECT_EQ(mode_of(path("new")), 0700u);
  fs::create_directory(path("older"));
  chmod(path("older").c_str(), 0755);
  ASSERT_TRUE(Home::folder(path("older"), 0700).ok());
  EXPECT_EQ(mode_of(path("older")), 0700u);
  Result<Home> of_the_node = Home::folder(path("node"), 0755);
  ASSERT_TRUE(of_the_node.ok());
  EXPECT_EQ(mode_of(path("node")), 0755u);
  EXPECT_FALSE(of_the_node->read_only());
  EXPECT_FALSE(of_the_node->was_there());
}

TEST_F(HomeTest, a_folder_that_others_may_write_is_refused) {
  fs::create_directory(path("c"));
  chmod(path("c").c_str(), 0777);
  EXPECT_EQ(Home::folder(path("c"), 0755).error().code, EACCES);
}

TEST_F(HomeTest, the_read_only_folder_must_be_the_same_and_read_only) {
  fs::create_directory(path("other"));
  EXPECT_THAT(Home::folder(path("c"), 0755, path("other")).error().message, HasSubstr("is not the folder"));
  EXPECT_THAT(Home::folder(path("c"), 0755, path("c")).error().message, HasSubstr("not mounted read-only"));
}

// As a DaemonSet without CAP_SYS_ADMIN gets it: the same folder twice, once readOnly.
TEST_F(HomeTest, nothing_can_be_changed_through_a_folder_that_is_given_a_second_time) {
  const pid_t child = fork();
  if (child == 0) {
    if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) _exit(77);
    fs::create_directory(path("c"));
    fs::create_directory(path("ro"));
    const bool mounted = mount(path("c").c_str(), path("ro").c_str(), nullptr, MS_BIND, nullptr) == 0 &&
                         mount(nullptr, path("ro").c_str(), nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr) == 0;
    Result<Home> home = Home::folder(path("c"), 0755, path("ro"));
    if (!mounted || !home || !home->read_only()) _exit(1);
    if (mkdirat(home->fd(), "d", 0755) != 0) _exit(2);
    _exit(mkdirat(home->view().get(), "e", 0755) != 0 && errno == EROFS ? 0 : 3);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "no mounts here";
  EXPECT_EQ(status, 0);
}

struct OwnTest : testing::Test {
  void SetUp() override {
    Result<Home> made = Home::own(64 * kMiB, 1000);
    if (!made) GTEST_SKIP() << "this machine refuses: " << made.error().message;
    home = std::make_unique<Home>(std::move(*made));
  }
  std::unique_ptr<Home> home;
};

TEST_F(OwnTest, programs_get_what_the_daemon_writes_and_change_nothing) {
  EXPECT_EQ(home->kind(), HomeKind::kOwn);
  EXPECT_TRUE(home->read_only());
  EXPECT_EQ(home->path(), "");
  ASSERT_EQ(mkdirat(home->fd(), "chunks/d", 0755), 0);
  EXPECT_EQ(faccessat(home->view().get(), "chunks/d", F_OK, 0), 0);
  EXPECT_EQ(mkdirat(home->view().get(), "chunks/e", 0755), -1);
  EXPECT_EQ(errno, EROFS);
}

// keep() sends the descriptors to whoever started larderd; the next larderd is started with them.
TEST_F(OwnTest, the_next_daemon_gets_it_from_who_kept_it) {
  ASSERT_EQ(mkdirat(home->fd(), "d", 0755), 0);
  Fd store(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string name = "larder-home-test-" + std::to_string(getpid());
  memcpy(address.sun_path + 1, name.data(), name.size());
  const auto length = static_cast<socklen_t>(offsetof(struct sockaddr_un, sun_path) + 1 + name.size());
  ASSERT_EQ(bind(store.get(), reinterpret_cast<struct sockaddr*>(&address), length), 0);
  setenv("NOTIFY_SOCKET", ("@" + name).c_str(), 1);
  ASSERT_TRUE(home->keep());
  unsetenv("NOTIFY_SOCKET");
  home.reset();

  std::string names;
  std::vector<int> fds;
  for (;;) {
    char text[256];
    alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    struct iovec part = {text, sizeof text};
    struct msghdr message = {nullptr, 0, &part, 1, control, sizeof control, 0};
    const ssize_t n = recvmsg(store.get(), &message, MSG_DONTWAIT);
    if (n < 0) break;
    const std::string sent(text, static_cast<size_t>(n));
    struct cmsghdr* header = CMSG_FIRSTHDR(&message);
    if (!header) continue;
    int fd;
    memcpy(&fd, CMSG_DATA(header), sizeof fd);
    fds.push_back(fcntl(fd, F_DUPFD, 100));
    close(fd);
    const size_t at = sent.find("FDNAME=") + 7;
    names += (names.empty() ? "" : ":") + sent.substr(at, sent.find('\n', at) - at);
  }
  ASSERT_EQ(names, "larder-home:larder-view");
  const pid_t child = fork();
  if (child == 0) {
    dup2(fds[0], 3);
    dup2(fds[1], 4);
    setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1);
    setenv("LISTEN_FDS", "2", 1);
    setenv("LISTEN_FDNAMES", names.c_str(), 1);
    StoredDescriptors stored = StoredDescriptors::adopt();
    Result<Home> again = Home::kept(stored);
    const bool good = again && again->was_there() && again->read_only() && faccessat(again->fd(), "d", F_OK, 0) == 0 &&
                      mkdirat(again->fd(), "e", 0755) == 0 && mkdirat(again->view().get(), "f", 0755) != 0;
    _exit(good ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST(Home, what_was_kept_must_be_two_views_of_one_cache) {
  const pid_t child = fork();
  if (child == 0) {
    const int root = open("/", O_RDONLY | O_DIRECTORY);
    const int high = fcntl(root, F_DUPFD, 100);
    dup2(high, 3);
    dup2(high, 4);
    setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1);
    setenv("LISTEN_FDS", "2", 1);
    setenv("LISTEN_FDNAMES", "larder-home:larder-view", 1);
    StoredDescriptors stored = StoredDescriptors::adopt();
    Result<Home> home = Home::kept(stored);
    _exit(!home && home.error().code == EBADMSG ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  StoredDescriptors none;
  EXPECT_EQ(Home::kept(none).error().code, ENOENT);
}

}  // namespace
}  // namespace larder
