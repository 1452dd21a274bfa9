#include "cached/namespace/registry.h"

#include <fcntl.h>
#include <gmock/gmock.h>

#include <atomic>
#include <fstream>

#include "cached/base/fd.h"
#include "tests/cached/fakes.h"

namespace larder {
namespace {

using test::eventually;
using test::Inside;
using test::Outside;
using ::testing::HasSubstr;

// A file whose next open waits, in the system call, until release(): a lease that has to be broken.
class OpenThatWaits {
 public:
  explicit OpenThatWaits(const std::string& path)
      : file_(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) {
    EXPECT_EQ(::fcntl(file_.get(), F_SETLEASE, F_WRLCK), 0);
  }
  bool somebody_waits() const { return ::fcntl(file_.get(), F_GETLEASE) != F_WRLCK; }
  void release() { file_.reset(); }

 private:
  Fd file_;
};

MountRequest request_for(const std::string& path) {
  MountRequest r;
  r.path = path;
  r.source = "file:///bucket" + path;
  return r;
}

TEST(Registry, ReadersDoNotWaitForAMountThatIsHeldUpInASystemCall) {
  Outside out;
  out.bucket->put("a", "body of a");
  Inside in(out);
  auto d = in.mount("/data/x");
  const MountRequest other = request_for("/data/y");
  const uint64_t id = dataset_id(name_for_source(other.source, {}), other.source);
  const std::string folder = fmt::format("{}/{:016x}", out.config.cache_dir, id);
  std::filesystem::create_directory(folder);
  OpenThatWaits sums(folder + "/sums");
  std::atomic<bool> mounted{false}, answered{false};
  std::thread mounter([&] {
    EXPECT_TRUE(in.datasets.mount(other, {}).ok());
    mounted = true;
  });
  ASSERT_TRUE(eventually([&] { return sums.somebody_waits(); }));
  std::thread reader([&] {
    EXPECT_EQ(in.datasets.find(d->id()), d);
    EXPECT_EQ(in.datasets.at_path("/data/x/a").second, "a");
    EXPECT_EQ(in.datasets.mounts().size(), 1u);
    EXPECT_EQ(in.datasets.all().size(), 1u);
    EXPECT_EQ(in.publisher->hello().mounts.size(), 1u);
    EXPECT_EQ(in.read(d, "a"), "body of a");  // a miss of the other dataset, whole
    answered = true;
  });
  EXPECT_TRUE(eventually([&] { return answered.load(); }));
  EXPECT_FALSE(mounted);
  sums.release();
  reader.join();
  mounter.join();
  EXPECT_EQ(in.datasets.mounts().size(), 2u);
}

TEST(Registry, ASourceThatRefusesIsNotServedFromTheStoredVersion) {
  Outside out;
  out.bucket->put("a", "body of a");
  Inside in(out);
  auto d = in.mount("/data/x");
  MountRequest again = request_for("/data/x");
  again.refresh = true;
  for (int code : {EACCES, EPERM, ENOENT}) {
    out.bucket->list_error = make_error(code, "the store says no");
    again.asked = std::chrono::steady_clock::now();
    Result<MountResult> refused = in.datasets.mount(again, {});
    ASSERT_FALSE(refused.ok()) << code;
    EXPECT_EQ(refused.error().code, code);
  }
  EXPECT_EQ(in.datasets.mounts().size(), 1u) << "who reads already goes on";
  out.bucket->list_error = make_error(ETIMEDOUT, "no answer");
  again.asked = std::chrono::steady_clock::now();
  Result<MountResult> away = in.datasets.mount(again, {});
  ASSERT_TRUE(away.ok());
  EXPECT_THAT(away->warnings.at(0), HasSubstr("no answer"));
  again.refresh = false;
  out.bucket->list_error = make_error(EACCES, "the store says no");
  EXPECT_TRUE(in.datasets.mount(again, {}).ok()) << "nobody asked for a listing";
}

TEST(Registry, WhoAskedBeforeAListingBeganTakesItsResult) {
  Outside out;
  out.bucket->put("a", "body of a");
  Inside in(out);
  in.mount("/data/x");
  out.bucket->put("a2", "body of a2");
  MountRequest first = request_for("/data/x");
  first.refresh = true;
  std::vector<std::thread> runs;
  for (int i = 0; i < 8; ++i)
    runs.emplace_back([&] { EXPECT_TRUE(in.datasets.mount(first, {}).ok()); });
  for (std::thread& run : runs)
    run.join();
  EXPECT_EQ(out.bucket->lists, 2u);
  // Who asks after it sees what was written before he asked.
  out.bucket->put("b", "body of b");
  MountRequest later = request_for("/data/x");
  later.refresh = true;
  ASSERT_TRUE(in.datasets.mount(later, {}).ok());
  EXPECT_EQ(out.bucket->lists, 3u);
  EXPECT_EQ(in.read(in.datasets.mounts()[0].dataset, "b"), "body of b");
}

TEST(Registry, ABadMountOfTheConfigurationDoesNotKeepTheGoodOnesFromBeingServed) {
  Outside out;
  out.bucket->put("a", "body of a");
  for (const char* source : {"nonsense", "file:///bucket/good"}) {
    MountConfig m;
    m.path = std::string("/data/") + (out.config.mounts.empty() ? "bad" : "good");
    m.source = source;
    out.config.mounts.push_back(m);
  }
  Inside in(out);
  ASSERT_TRUE(in.datasets.start().ok());
  ASSERT_EQ(in.datasets.mounts().size(), 1u);
  EXPECT_EQ(in.read(in.datasets.mounts()[0].dataset, "a"), "body of a");
  ASSERT_EQ(in.datasets.waiting().size(), 1u);
  EXPECT_EQ(in.datasets.waiting()[0].request.path, "/data/bad");
  EXPECT_THAT(in.datasets.waiting()[0].trouble, HasSubstr("nonsense"));
  EXPECT_TRUE(in.datasets.umount("/data/bad").ok()) << "an administrator may give it up";
  EXPECT_TRUE(in.datasets.waiting().empty());
}

}  // namespace
}  // namespace larder
