#include "preload/resolve/path_scan.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace larder {
namespace {

// Says it by components, as POSIX does: neither of the two under test is the measure of the other.
bool odd(const std::string& path) {
  for (size_t slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    const std::string component = path.substr(slash + 1, path.find('/', slash + 1) - slash - 1);
    if (component.empty() || component == "." || component == "..") return true;
  }
  return false;
}

Head head_of(const std::string& mount) {
  Head h;
  const size_t n = std::min(mount.size(), sizeof(h.bytes));
  std::memcpy(&h.bytes, mount.data(), n);
  std::memset(&h.mask, 0xff, n);
  return h;
}

// A page with no page behind it: whoever reads too far is killed.
class PathScan : public testing::Test {
 protected:
  static constexpr size_t kPage = 4096;
  void SetUp() override {
    page_ = static_cast<char*>(::mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(page_, MAP_FAILED);
    ASSERT_EQ(::mprotect(page_ + kPage, kPage, PROT_NONE), 0);
    std::memset(page_, '/', kPage);  // what is before and behind a path must not count
  }
  void TearDown() override { ::munmap(page_, 2 * kPage); }

  // The path with `room` bytes between its end and the end of the page.
  const char* place(const std::string& path, size_t room) {
    std::memset(page_, room % 2 ? '/' : '.', kPage);
    char* at = page_ + kPage - path.size() - 1 - room;
    std::memcpy(at, path.c_str(), path.size() + 1);
    return at;
  }

  void check(const std::string& path, size_t room) {
    const char* p = place(path, room);
    EXPECT_EQ(has_odd_component(p), odd(path)) << path << " " << room;
    EXPECT_EQ(has_odd_component_bytewise(p), odd(path)) << path << " " << room;
    if (path.empty() || path[0] != '/') return;
    for (const char* mount : {"/data", "/data/imagenet", "/d", "/mnt/x"})
      check_plain(p, path, mount);
  }

  void check_plain(const char* p, const std::string& path, const std::string& mount) {
    const Head head = head_of(mount);
    const bool like_mount = path.compare(0, std::min<size_t>(mount.size(), 8), mount, 0, 8) == 0;
    EXPECT_EQ(certainly_plain_bytewise(head, p), !like_mount && !odd(path)) << path << " " << mount;
    const bool fast = certainly_plain(head, p);
    EXPECT_TRUE(!fast || (!like_mount && !odd(path))) << path << " " << mount;
    decided_ += fast;
    // Undecided is allowed for a hidden name, and where the page ends; else the quick look has to be of use.
    const bool room = (reinterpret_cast<uintptr_t>(p) & (kPage - 1)) + path.size() + 34 < kPage;
    if (room && path.find("/.") == std::string::npos) {
      EXPECT_EQ(fast, !like_mount && !odd(path)) << path << " " << mount;
    }
  }

  char* page_ = nullptr;
  int decided_ = 0;
};

TEST_F(PathScan, EdgesAtEveryPlaceOfAPage) {
  const std::vector<std::string> paths = {"",
                                          "/",
                                          ".",
                                          "..",
                                          "//",
                                          "/.",
                                          "/..",
                                          "/...",
                                          "/a",
                                          "/a/",
                                          "/a/.",
                                          "/a/..",
                                          "/a/...",
                                          "/a/.b",
                                          "/a/..b",
                                          "/a//b",
                                          "/a/./b",
                                          "/a/../b",
                                          "a",
                                          "a/",
                                          "a/./b",
                                          "a/../b",
                                          "a/.b/c",
                                          "/data",
                                          "/data/x",
                                          "/datax",
                                          "/dat",
                                          "/data/",
                                          "/data/..",
                                          "/d",
                                          "/mnt/x",
                                          "/mnt/xy",
                                          "/0123456789abcde/",
                                          "/0123456789abcd/..",
                                          "/0123456789abcde/.",
                                          "/0123456789abcd/.x",
                                          "/0123456789abc/../x",
                                          std::string("/") + std::string(300, 'x') + "/.."};
  for (const std::string& path : paths)
    for (size_t room = 0; room < 70; ++room)
      check(path, room);
}

TEST_F(PathScan, RandomPaths) {
  std::mt19937 random(1);
  const std::string letters = "//..ab";
  for (int i = 0; i < 50'000; ++i) {
    std::string path = random() % 4 ? "/" : "";
    if (random() % 3 == 0) path += "data/";
    for (size_t n = random() % 60; n > 0; --n)
      path += letters[random() % (random() % 8 ? letters.size() : 2)];
    for (size_t n = random() % 40; random() % 2 && n > 0; --n)
      path += 'x';
    check(path, random() % 100);
  }
  EXPECT_GT(decided_, 1000);
}

TEST_F(PathScan, WithoutMountsEverythingIsOutside) {
  const Head none = {1, ~0ULL};  // common_head() of no mounts
  for (const char* path : {"/", "/a", "/usr/lib/x.so"}) {
    const char* p = place(path, 100);
    EXPECT_EQ(certainly_plain(none, p), certainly_plain_bytewise(none, p)) << path;
    EXPECT_EQ(certainly_plain(none, p), std::strlen(path) > 1) << path;
  }
}

}  // namespace
}  // namespace larder
