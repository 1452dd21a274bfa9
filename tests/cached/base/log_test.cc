// What the log says must not hold up or end the daemon, whatever becomes of its stderr or file.
#include "cached/base/log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "cached/base/fd.h"

namespace larder {
namespace {

class Log : public testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    reader_.reset(ends[0]);
    writer_.reset(ends[1]);
    before_ = spdlog::default_logger();
    ASSERT_TRUE(set_up_log("/proc/self/fd/" + std::to_string(writer_.get()), "info"));
  }
  void TearDown() override { spdlog::set_default_logger(before_); }

  void fill_pipe() {
    ::fcntl(writer_.get(), F_SETFL, O_NONBLOCK);
    const std::string page(4096, '-');
    while (::write(writer_.get(), page.data(), page.size()) > 0) {
    }
  }
  std::string drain() {
    ::fcntl(reader_.get(), F_SETFL, O_NONBLOCK);
    std::string all, piece(65536, '\0');
    for (ssize_t n; (n = ::read(reader_.get(), piece.data(), piece.size())) > 0;)
      all.append(piece, 0, static_cast<size_t>(n));
    return all;
  }

  Fd reader_, writer_;
  std::shared_ptr<spdlog::logger> before_;
};

TEST_F(Log, WritesALineAnEvent) {
  spdlog::info("one {}", 1);
  const std::string said = drain();
  EXPECT_NE(said.find(" info one 1\n"), said.npos) << said;
}

TEST_F(Log, APipeThatNobodyReadsHoldsNobodyUp) {
  fill_pipe();
  for (int i = 0; i < 3; ++i)
    spdlog::warn("goes nowhere");
  drain();
  spdlog::info("read again");
  const std::string said = drain();
  EXPECT_EQ(said.find("goes nowhere"), said.npos) << said;
  EXPECT_NE(said.find(" warning 3 lines could not be written and are lost\n"), said.npos) << said;
  EXPECT_NE(said.find(" info read again\n"), said.npos) << said;
}

TEST(LogFile, AFullDiskLosesLinesAlone) {
  const auto before = spdlog::default_logger();
  ASSERT_TRUE(set_up_log("/dev/full", "info"));
  spdlog::error("lost");
  spdlog::set_default_logger(before);
}

}  // namespace
}  // namespace larder
