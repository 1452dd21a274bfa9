#include "cached/cli/raw_calls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace larder::cli {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

#if defined(__x86_64__)
std::string code(std::initializer_list<int> bytes) {
  std::string out;
  for (int b : bytes)
    out.push_back(static_cast<char>(b));
  return out;
}

// mov $257, %eax; xor %r10d, %r10d; mov %rbx, %rsi; syscall
const std::string kOpenat = code({0xb8, 0x01, 0x01, 0, 0, 0x45, 0x31, 0xd2, 0x48, 0x89, 0xde, 0x0f, 0x05});
// mov $332, %rax; syscall
const std::string kStatx = code({0x48, 0xc7, 0xc0, 0x4c, 0x01, 0, 0, 0x0f, 0x05});
// mov $2, %eax; syscall
const std::string kOpen = code({0xb8, 2, 0, 0, 0, 0x0f, 0x05});

TEST(RawCalls, NamesWhatACompilerMakesOfASystemCall) {
  EXPECT_THAT(raw_path_calls(kOpenat), ElementsAre("openat"));
  EXPECT_THAT(raw_path_calls(kStatx + std::string(100, '\x90') + kOpenat + kOpenat + kOpen),
              ElementsAre("open", "openat", "statx"));
}

TEST(RawCalls, LeavesOtherCallsAndOtherBytesAlone) {
  EXPECT_THAT(raw_path_calls(""), IsEmpty());
  EXPECT_THAT(raw_path_calls(code({0x0f, 0x05})), IsEmpty());
  EXPECT_THAT(raw_path_calls(code({0xb8, 0xca, 0, 0, 0, 0x0f, 0x05})), IsEmpty()) << "futex";
  EXPECT_THAT(raw_path_calls(kOpenat.substr(0, 5) + code({0xe8, 1, 2, 3, 4, 0x0f, 0x05})), IsEmpty())
      << "a call in between sets another number";
  EXPECT_THAT(raw_path_calls(kOpenat.substr(0, 5) + std::string(kRawCallWindow, '\x90') + code({0x0f, 0x05})),
              IsEmpty())
      << "too far away";
  EXPECT_THAT(raw_path_calls(code({0xb8, 2, 0, 0, 0, 0x90, 0x0f, 0x05})), IsEmpty()) << "a small number is no evidence";
}
#endif

TEST(RawCalls, AnyBytesAreHarmless) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::string bytes(random() % 500, '\0');
    for (char& b : bytes)
      b = static_cast<char>(random() % 4 ? random() : 0x0f - 10 * (random() % 2));
    (void)raw_path_calls(bytes);
  }
}

}  // namespace
}  // namespace larder::cli
