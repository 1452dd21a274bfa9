// What a user would lose: a job that the kernel kills because the cache grew past the limit of its container.
#include "cached/home/memory.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace larder {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMiB = 1 << 20;

struct MemoryTest : testing::Test {
  MemoryTest() : root(fs::temp_directory_path() / ("larder-memory-" + std::to_string(getpid()))) {
    put("proc/meminfo", "MemTotal:       8388608 kB\nMemFree:          10 kB\nMemAvailable:    4194304 kB\n");
  }
  ~MemoryTest() override { fs::remove_all(root); }

  void put(const std::string& name, const std::string& text) {
    fs::create_directories((root / name).parent_path());
    std::ofstream(root / name) << text;
  }
  Memory look() { return memory(root.string() + "/"); }

  fs::path root;
};

TEST_F(MemoryTest, without_a_group_it_is_the_nodes) {
  const Memory m = look();
  EXPECT_EQ(m.total, 8192 * kMiB);
  EXPECT_EQ(m.available, 4096 * kMiB);
  EXPECT_EQ(m.limit, UINT64_MAX);
}

TEST_F(MemoryTest, the_tightest_group_of_version_2_limits) {
  put("proc/self/cgroup", "0::/pods/one\n");
  put("sys/fs/cgroup/memory.stat", "");
  put("sys/fs/cgroup/pods/memory.max", "1073741824\n");
  put("sys/fs/cgroup/pods/memory.current", "0\n");
  put("sys/fs/cgroup/pods/one/memory.max", "419430400\n");
  put("sys/fs/cgroup/pods/one/memory.current", "209715200\n");
  put("sys/fs/cgroup/pods/one/memory.stat", "anon 1\nfile 104857600\ninactive_file 52428800\nactive_file 52428800\n");
  const Memory m = look();
  EXPECT_EQ(m.limit, 400 * kMiB);
  EXPECT_TRUE(m.limited_by.ends_with("/sys/fs/cgroup/pods/one/memory.max")) << m.limited_by;
  EXPECT_EQ(m.available, 300 * kMiB);
}

TEST_F(MemoryTest, no_limit_is_max_or_a_huge_number) {
  put("proc/self/cgroup", "0::/a\n5:cpu,memory:/b\n");
  put("sys/fs/cgroup/a/memory.max", "max\n");
  put("sys/fs/cgroup/memory/b/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(look().limit, UINT64_MAX);
  EXPECT_EQ(look().available, 4096 * kMiB);
}

// In a container of version 1 the path is the node's, which is not there; the container's own group is at the top.
TEST_F(MemoryTest, a_container_of_version_1_is_limited_by_what_it_sees) {
  put("proc/self/cgroup", "12:pids:/x\n9:memory:/docker/0123\n");
  put("sys/fs/cgroup/memory/memory.limit_in_bytes", "419430400\n");
  put("sys/fs/cgroup/memory/memory.usage_in_bytes", "104857600\n");
  put("sys/fs/cgroup/memory/memory.stat", "total_inactive_file 0\ntotal_active_file 0\n");
  EXPECT_EQ(look().limit, 400 * kMiB);
  EXPECT_EQ(look().available, 300 * kMiB);
}

}  // namespace
}  // namespace larder
