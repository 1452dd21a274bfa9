// The cache's accounts: they add up, and what goes wrong is seen and repaired.
#include "cached/cache/budget.h"

#include <spdlog/sinks/ostream_sink.h>

#include <sstream>

#include "tests/cached/lazily.h"

namespace larder {
namespace {

using test::eventually;
using test::Inside;
using test::Lazily;
using test::must;
using test::Outside;

void fail(const char* account) {
  ADD_FAILURE() << "more was taken from the account of " << account << " than it held";
}

// In the whole test program, an account that falls below zero fails the test that runs.
const bool kUnderflowFails = [] {
  Budget::on_underflow = fail;
  return true;
}();

// Counts underflows and captures the log while it lives.
class Expected {
 public:
  Expected() : logger_(spdlog::default_logger()) {
    underflows = 0;
    Budget::on_underflow = [](const char*) { ++underflows; };
    auto logger = std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_mt>(text_));
    logger->set_level(spdlog::level::err);
    spdlog::set_default_logger(logger);
  }
  ~Expected() {
    spdlog::set_default_logger(logger_);
    Budget::on_underflow = fail;
  }
  int lines_with(const std::string& what) const {
    int n = 0;
    std::istringstream in(text_.str());
    for (std::string line; std::getline(in, line);)
      n += line.find(what) != std::string::npos;
    return n;
  }
  static inline std::atomic<int> underflows{0};

 private:
  std::shared_ptr<spdlog::logger> logger_;
  std::ostringstream text_;
};

struct Numbers {
  uint64_t cached, files, staged, reserved, chunks, staged_chunks;
  auto operator<=>(const Numbers&) const = default;
};
Numbers numbers(const Accounts& a) {
  return {a.cached.value(),   a.files.value(),  a.staged.value(),
          a.reserved.value(), a.chunks.value(), a.staged_chunks.value()};
}
std::ostream& operator<<(std::ostream& out, const Numbers& n) {
  return out << fmt::format("cached {} files {} staged {} reserved {} chunks {} staged chunks {}", n.cached, n.files,
                            n.staged, n.reserved, n.chunks, n.staged_chunks);
}

TEST(Accounts, TheUnitTestsSeeUnderflows) {
  ASSERT_TRUE(kUnderflowFails);
  EXPECT_EQ(Budget::on_underflow.load(), fail);
}

TEST(Accounts, AnAccountNeverFallsBelowZeroSilently) {
  Account a("apples");
  a.add(5);
  EXPECT_TRUE(a.take(5));
  EXPECT_EQ(a.value(), 0u);
  a.add(3);
  EXPECT_FALSE(a.take(4));
  EXPECT_EQ(a.value(), 0u);
}

class BudgetTest : public test::LazyTest {
 protected:
  static constexpr size_t kChunk = 64 << 10;
  BudgetTest() : LazyTest({2 << 20, 0, 128 << 10}) {}
  void fill_bucket(int files) {
    for (int i = 0; i < files; ++i)
      out.bucket->put(name(i), std::string(8192, static_cast<char>('a' + i % 26)));
  }
  static std::string name(int i) { return fmt::format("f{:04}", i); }
};

TEST_F(BudgetTest, EveryAccountTakesPartAndAllAddUp) {
  fill_bucket(10);
  Inside in(out);
  auto d = in.mount("/data/x"), e = in.mount("/data/y");
  for (int i = 0; i < 10; ++i)
    in.read(d, name(i));
  in.read(e, name(0));
  Room room = must(in.cache.admit(in.object(e, name(1)), true));
  EXPECT_EQ(numbers(*in.cache.accounts_of(*d)), (Numbers{10 * 8192, 10, 0, 0, 0, 0}));
  EXPECT_EQ(numbers(*in.cache.accounts_of(*e)), (Numbers{8192, 1, 0, 8192, 0, 0}));
  EXPECT_EQ(numbers(in.cache.budget().total()), (Numbers{11 * 8192, 11, 0, 8192, 0, 0}));
  EXPECT_EQ(in.cache.usage().used, 12 * 8192 + in.meter.load());
}

// Each account is made wrong, too large and too small; the next admission counts what is there.
TEST_F(BudgetTest, AnUnderflowIsRepairedFromWhatIsThereAndLoggedOnce) {
  fill_bucket(400);
  out.bucket->put("big", body(20 * kChunk));
  Lazily in(out);
  auto d = in.mount();
  for (int i = 0; i < 300; ++i)  // more than fits: some are staged
    in.read(d, name(i));
  LazyPtr f = in.open(d, "big");
  for (uint32_t i = 0; i < 6; ++i)
    ASSERT_TRUE(in.want(f, i).ok());
  ASSERT_TRUE(eventually([&] { return in.cache.accounts_of(*d)->reserved.value() == 0; }));  // also what is read ahead
  Fd used = must(in.cache.open_resident(*d, d->version()->find_file(name(0))));
  in.cache.drop_corrupt(*d, *d->version(), d->version()->find_file(name(0)));  // a zombie
  Budget& budget = in.cache.budget();
  auto accounts = std::const_pointer_cast<Accounts>(in.cache.accounts_of(*d));
  const Numbers right = numbers(*accounts);
  EXPECT_EQ(right, numbers(budget.total()));
  ASSERT_GT(right.staged, 0u);
  ASSERT_GT(right.chunks, 0u);
  ASSERT_EQ(budget.zombies(), 8192u);
  const uint64_t right_used = budget.used();

  Expected expected;
  budget.chunks_came(*accounts, 12345);
  budget.file_came(*accounts, 4096);
  budget.file_staged(*accounts, 4096);
  budget.zombie_came(4096);
  EXPECT_EQ(expected.underflows, 0);
  budget.file_went(*accounts, right.cached + 8192);
  EXPECT_EQ(expected.underflows, 2) << "the dataset's and the whole";
  in.cache.keep_limits();
  EXPECT_EQ(numbers(*accounts), right);
  EXPECT_EQ(numbers(budget.total()), right);
  EXPECT_EQ(budget.zombies(), 8192u);
  EXPECT_EQ(budget.used(), right_used);
  in.cache.keep_limits();
  EXPECT_EQ(expected.lines_with("counted anew"), 1);
  EXPECT_EQ(expected.lines_with("cached bytes"), 1);
}

// "`cache_size` holds from the start of the daemon on": what the former daemon left beyond it goes, but no more, and
// not what is in use.
TEST_F(BudgetTest, ASmallerCacheSizeHoldsAfterARestart) {
  fill_bucket(200);
  out.bucket->put("big", body(20 * kChunk));
  out.limits = {8 << 20, 0, 64 << 10};
  Fd used;
  {
    Lazily in(out);
    auto d = in.mount();
    for (int i = 0; i < 200; ++i)
      in.read(d, name(i));
    LazyPtr f = in.open(d, "big");
    for (uint32_t i : {3, 1})  // not from the beginning: nothing is read ahead, which could make it whole
      ASSERT_TRUE(in.want(f, i).ok());
    used = must(in.cache.open_resident(*d, d->version()->find_file(name(199))));
  }
  out.limits = {1 << 20, 0, 64 << 10};
  Lazily in(out);
  auto d = in.mount();
  ASSERT_GT(in.cache.usage().used, out.limits.cache_size);
  in.cache.keep_limits();
  EXPECT_LE(in.cache.usage().used, out.limits.cache_size);
  EXPECT_GT(in.cache.usage().used, out.limits.cache_size * 3 / 4);
  EXPECT_EQ(in.state(d, name(199)), kResident) << "it is in use";
  for (int i = 0; i < 200; ++i)
    ASSERT_EQ(in.read(d, name(i)), std::string(8192, static_cast<char>('a' + i % 26)));
  EXPECT_LE(in.cache.usage().used, out.limits.cache_size);
}

// The same for files of a dataset that is not mounted any more.
TEST_F(BudgetTest, ASmallerCacheSizeHoldsForLeftovers) {
  fill_bucket(200);
  out.limits = {8 << 20, 0, 64 << 10};
  DatasetDef def;
  {
    Inside in(out);
    auto d = in.mount();
    def = d->def;
    for (int i = 0; i < 200; ++i)
      in.read(d, name(i));
  }
  out.limits = {1 << 20, 0, 64 << 10};
  Inside in(out);
  in.cache.add(must(Dataset::open(def, *in.dir, in.meter)));
  ASSERT_GT(in.cache.usage().used, out.limits.cache_size);
  in.cache.keep_limits();
  EXPECT_LE(in.cache.usage().used, out.limits.cache_size);
  EXPECT_GT(in.cache.usage().used, out.limits.cache_size * 3 / 4);
}

// What was reserved when the accounts were counted anew is given back right.
TEST_F(BudgetTest, ReservationsOutliveARepairAndTheirDataset) {
  fill_bucket(3);
  Inside in(out);
  auto d = in.mount();
  Room room = must(in.cache.admit(in.object(d, name(1)), true));
  in.cache.budget().distrust("a test");
  {
    Expected expected;
    in.cache.keep_limits();
    EXPECT_EQ(expected.lines_with("a test"), 1);
  }
  EXPECT_EQ(in.cache.budget().total().reserved.value(), 8192u);
  in.cache.remove(*d);
  in.cache.budget().distrust("a test");
  {
    Expected expected;
    in.cache.keep_limits();
  }
  EXPECT_EQ(in.cache.budget().total().reserved.value(), 8192u);
  room = Room();
  EXPECT_EQ(in.cache.budget().total().reserved.value(), 0u);
  EXPECT_EQ(in.cache.admit(in.object(d, name(1)), true).error().code, ESTALE);
}

// A dataset that is forgotten takes its staged files out of the staging share.
TEST_F(BudgetTest, ADatasetThatIsForgottenLeavesNothingInTheAccounts) {
  fill_bucket(400);
  out.bucket->put("big", body(20 * kChunk));
  Lazily in(out);
  auto d = in.mount();
  for (int i = 0; i < 300; ++i)
    in.read(d, name(i));
  LazyPtr f = in.open(d, "big");
  for (uint32_t i = 0; i < 3; ++i)
    ASSERT_TRUE(in.want(f, i).ok());
  ASSERT_TRUE(eventually([&] { return in.cache.accounts_of(*d)->reserved.value() == 0; }));  // also what is read ahead
  const uint64_t chunks = in.cache.accounts_of(*d)->chunks.value();
  ASSERT_GT(in.cache.usage().staging, 0u);
  in.cache.remove(*d);
  EXPECT_EQ(numbers(in.cache.budget().total()), (Numbers{0, 0, 0, 0, 0, 0}));
  in.cache.add(d);
  const Numbers again = numbers(in.cache.budget().total());
  EXPECT_EQ(again, numbers(*in.cache.accounts_of(*d)));
  EXPECT_GT(again.files, 0u);
  EXPECT_EQ(again.chunks, chunks);
}

// Somebody removes staged files: the share does not stay full of what is not there.
TEST_F(BudgetTest, StagedFilesThatSomebodyRemovedLeaveTheShare) {
  fill_bucket(600);
  Inside in(out);
  auto d = in.mount();
  for (int i = 0; i < 300; ++i)
    in.read(d, name(i));
  ASSERT_GT(in.cache.usage().staging, 0u);
  const std::string folder = fmt::format("{}/{:016x}", out.config.cache_dir, d->id());
  for (auto& each : std::filesystem::directory_iterator(folder))
    if (each.path().filename().string().size() == 32) std::filesystem::remove(each.path());
  Expected expected;
  for (int i = 300; i < 600; ++i)
    EXPECT_EQ(in.read(d, name(i)), std::string(8192, static_cast<char>('a' + i % 26)));
  in.cache.keep_limits();
  uint64_t there = 0;
  for (auto& each : std::filesystem::directory_iterator(folder))
    if (each.path().filename().string().size() == 32) there += on_disk(each.file_size());
  for (int i = 0; i < 300; ++i)  // those that nobody missed yet are found out as they are opened
    (void)in.cache.open_resident(*d, d->version()->find_file(name(i)));
  EXPECT_EQ(in.cache.accounts_of(*d)->cached.value(), there);
  EXPECT_EQ(expected.underflows, 0);
}

}  // namespace
}  // namespace larder
