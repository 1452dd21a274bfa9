// A sanitizer's silence means something only if it can speak: these programs are wrong on purpose.
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <thread>

#ifdef LARDER_SANITIZED
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#error "the build says that it is sanitized and the compiler says that it is not"
#endif
#endif

#ifdef __SANITIZE_THREAD__
// Some tests fork to become another user, and their child has threads.
extern "C" const char* __tsan_default_options();
extern "C" const char* __tsan_default_options() {
  return "die_after_fork=0";
}
#endif

namespace larder {
namespace {

#ifdef __SANITIZE_ADDRESS__
TEST(AddressSanitizerDeathTest, SeesAReadOfFreedMemory) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        auto owner = std::make_unique<int>(1);
        volatile int* p = owner.get();
        owner.reset();
        exit(*p);
      },
      "heap-use-after-free");
}

TEST(UndefinedSanitizerDeathTest, SeesAnOverflow) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        volatile int big = 0x7fffffff;
        big = big + 1;
        exit(0);
      },
      "signed integer overflow");
}
#endif

#ifdef __SANITIZE_THREAD__
volatile int g_raced = 0;  // volatile: the compiler would drop a variable that nobody reads

TEST(ThreadSanitizerDeathTest, SeesARace) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        std::thread other([] { g_raced = 1; });
        g_raced = 2;
        other.join();
        exit(0);
      },
      testing::ExitedWithCode(66), "data race");
}
#endif

}  // namespace
}  // namespace larder
