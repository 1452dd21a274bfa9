#include "preload/base/libc_result.h"

#include <gtest/gtest.h>
#include <sys/types.h>

namespace larder {
namespace {

TEST(LibcResult, EveryErrorOfTheKernelIsMinusOneAndErrno) {
  for (int error = 1; error < 4096; ++error) {
    errno = 0;
    ASSERT_EQ(libc_result<int>(-error), -1);
    ASSERT_EQ(errno, error);
  }
}

TEST(LibcResult, ARefusalIsEpermAndNotTheErrnoBefore) {
  errno = ENOENT;
  EXPECT_EQ(libc_result(-EPERM), -1);
  EXPECT_EQ(errno, EPERM);
}

TEST(LibcResult, AResultLeavesErrnoAlone) {
  errno = EINTR;
  EXPECT_EQ(libc_result<int>(0), 0);
  EXPECT_EQ(libc_result<ssize_t>(0x7ffff000), 0x7ffff000);
  EXPECT_EQ(libc_result<long>(-4096), -4096);  // an address or an offset
  EXPECT_EQ(libc_result<long>(0x7fffffffffffffff), 0x7fffffffffffffff);
  EXPECT_EQ(errno, EINTR);
}

}  // namespace
}  // namespace larder
