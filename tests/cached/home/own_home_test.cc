// What a user would lose: a program that writes into the cache that all share, a cache that takes more memory than it
// says, or that goes while somebody reads from it.
#include "cached/home/own_home.h"

#include <gtest/gtest.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <functional>

#include "cached/base/files.h"
#include "larder/names.h"

namespace larder {
namespace {

constexpr uint64_t kMiB = 1 << 20;

struct OwnHomeTest : testing::Test {
  void SetUp() override {
    Result<OwnHome> made = make_own_home(64 * kMiB, 1000);
    if (!made) GTEST_SKIP() << "this machine refuses: " << made.error().message;
    home = std::move(*made);
    root = std::move(*open_dir(home.writable.get(), "."));
  }

  void write(const std::string& name, const std::string& text, mode_t mode = 0644) {
    Fd file = std::move(*unnamed_file(root.get()));
    ASSERT_TRUE(pwrite_all(file.get(), text.data(), text.size(), 0));
    ASSERT_EQ(fchmod(file.get(), mode), 0);
    ASSERT_TRUE(link_file(file.get(), root.get(), name));
  }
  std::string read(int dir, const std::string& name) {
    Result<std::string> text = read_file(dir, name, kMiB);
    return text ? *text : text.error().message;
  }
  uint64_t used(int fd) {
    struct statvfs s = {};
    fstatvfs(fd, &s);
    return (s.f_blocks - s.f_bfree) * s.f_frsize;
  }

  OwnHome home;
  Fd root;
};

// Runs in a child; its exit status is the errno of what it did.
int errno_in_child(const std::function<int()>& call) {
  pid_t child = fork();
  if (child == 0) {
    errno = 0;
    _exit(call() < 0 ? errno : 0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}

int clear_read_only(int mount) {
  struct mount_attr attr = {};
  attr.attr_clr = MOUNT_ATTR_RDONLY;
  return static_cast<int>(syscall(SYS_mount_setattr, mount, "", AT_EMPTY_PATH | 0x8000, &attr, sizeof attr));
}

TEST_F(OwnHomeTest, what_is_written_through_one_view_is_read_through_the_other) {
  write("a", "bytes");
  EXPECT_EQ(read(home.readable.get(), "a"), "bytes");
  ASSERT_EQ(mkdirat(root.get(), "chunks/d", 0755), 0);
  struct stat mine, theirs;
  ASSERT_EQ(fstatat(root.get(), "chunks/d", &mine, 0), 0);
  ASSERT_EQ(fstatat(home.readable.get(), "chunks/d", &theirs, 0), 0);
  EXPECT_EQ(mine.st_dev, theirs.st_dev);
  EXPECT_EQ(mine.st_ino, theirs.st_ino);
}

TEST_F(OwnHomeTest, nothing_can_be_changed_through_the_readable_view) {
  write("a", "bytes");
  const int view = home.readable.get();
  Fd fd(openat(view, "a", O_RDONLY | O_CLOEXEC));
  const std::string again = "/proc/self/fd/" + std::to_string(fd.get());
  auto error_of = [](int r) { return r < 0 ? errno : 0; };
  EXPECT_EQ(error_of(open(again.c_str(), O_WRONLY)), EROFS);
  EXPECT_EQ(error_of(open(again.c_str(), O_RDWR | O_APPEND)), EROFS);
  EXPECT_EQ(error_of(openat(view, "a", O_WRONLY | O_TRUNC)), EROFS);
  EXPECT_EQ(error_of(openat(view, "new", O_WRONLY | O_CREAT, 0644)), EROFS);
  EXPECT_EQ(error_of(openat(view, "chunks/new", O_WRONLY | O_CREAT, 0644)), EROFS);
  EXPECT_EQ(error_of(openat(view, ".", O_RDWR | O_TMPFILE, 0644)), EROFS);
  EXPECT_EQ(error_of(truncate(again.c_str(), 0)), EROFS);
  EXPECT_EQ(error_of(fchmod(fd.get(), 0600)), EROFS);
  EXPECT_EQ(error_of(fchmodat(view, "a", 0600, 0)), EROFS);
  EXPECT_EQ(error_of(fchown(fd.get(), geteuid(), getegid())), EROFS);
  EXPECT_EQ(error_of(futimens(fd.get(), nullptr)), EROFS);
  EXPECT_EQ(error_of(fsetxattr(fd.get(), "user.x", "1", 1, 0)), EROFS);
  EXPECT_EQ(error_of(mkdirat(view, "chunks/d", 0755)), EROFS);
  EXPECT_EQ(error_of(symlinkat("x", view, "s")), EROFS);
  EXPECT_EQ(error_of(linkat(AT_FDCWD, again.c_str(), view, "b", AT_SYMLINK_FOLLOW)), EROFS);
  EXPECT_EQ(error_of(renameat(view, "a", view, "b")), EROFS);
  EXPECT_EQ(error_of(unlinkat(view, "a", 0)), EROFS);
  EXPECT_NE(error_of(ftruncate(fd.get(), 0)), 0);
  EXPECT_EQ(read(view, "a"), "bytes");
}

TEST_F(OwnHomeTest, whoever_holds_the_readable_view_cannot_make_it_writable) {
  if (!home.locked) GTEST_SKIP() << "no second user namespace here";
  const int view = home.readable.get();
  EXPECT_EQ(errno_in_child([&] { return clear_read_only(view); }), EPERM);
  EXPECT_EQ(errno_in_child([&] { return unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 ? -1 : clear_read_only(view); }),
            EPERM);
  EXPECT_EQ(errno_in_child([&] { return mkdirat(view, "d", 0755); }), EROFS);
}

TEST_F(OwnHomeTest, a_reader_through_the_view_is_seen_by_the_daemons_lease) {
  write("a", "bytes", 0444);
  Fd mine(openat(root.get(), "a", O_RDONLY | O_CLOEXEC));
  Fd theirs(openat(home.readable.get(), "a", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(fcntl(mine.get(), F_SETLEASE, F_WRLCK), -1);
  EXPECT_EQ(errno, EAGAIN);
  theirs.reset();
  EXPECT_EQ(fcntl(mine.get(), F_SETLEASE, F_WRLCK), 0);
}

TEST_F(OwnHomeTest, a_chunk_takes_what_it_holds_and_gives_it_back) {
  Fd chunks = std::move(*open_dir(root.get(), kChunksFolder));
  Fd file = std::move(*unnamed_file(chunks.get()));
  ASSERT_EQ(ftruncate(file.get(), 1 << 30), 0);
  const uint64_t before = used(chunks.get());
  const std::string chunk(256 << 10, 'x');
  for (uint64_t at = 0; at < (1 << 30); at += 32 * kMiB)
    ASSERT_TRUE(pwrite_all(file.get(), chunk.data(), chunk.size(), at));
  EXPECT_EQ(used(chunks.get()) - before, 32 * chunk.size());
  ASSERT_EQ(fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 30), 0);
  EXPECT_EQ(used(chunks.get()), before);
}

TEST_F(OwnHomeTest, it_has_the_size_that_was_asked_for_and_outlives_its_other_view) {
  struct statvfs s = {};
  ASSERT_EQ(fstatvfs(root.get(), &s), 0);
  EXPECT_EQ(s.f_blocks * s.f_frsize, 64 * kMiB);
  EXPECT_EQ(s.f_files, 1000u);
  write("a", "bytes");
  root.reset();
  home.writable.reset();
  EXPECT_EQ(read(home.readable.get(), "a"), "bytes");
}

TEST(OwnHome, a_refusal_names_the_call) {
  // A user that its own namespace does not know may not make another one.
  const int refused = errno_in_child([] {
    if (unshare(CLONE_NEWUSER) != 0) return 0;
    Result<OwnHome> home = make_own_home(kMiB, 0);
    errno = !home && home.error().message.starts_with("unshare") ? home.error().code : EPROTO;
    return -1;
  });
  if (refused == 0) GTEST_SKIP() << "no user namespaces here";
  EXPECT_EQ(refused, EPERM);
}

}  // namespace
}  // namespace larder
