#include "cached/namespace/datasets.h"

#include <gmock/gmock.h>

#include <fstream>

#include "cached/catalog/directory_handles.h"
#include "larder/names.h"
#include "tests/cached/fakes.h"

namespace larder {
namespace {

using test::Inside;
using test::Outside;
using ::testing::HasSubstr;

class DatasetsTest : public ::testing::Test {
 protected:
  DatasetsTest() {
    for (int i = 0; i < 10; ++i)
      out.bucket->put(fmt::format("a/f{}", i), fmt::format("body {}", i));
  }
  const Control& control(Inside& in) { return *in.dir->control(); }
  Outside out;
};

TEST_F(DatasetsTest, AMountIsWhatControlSays) {
  Inside in(out);
  auto d = in.mount("/data/x");
  auto e = in.mount("/data/deeper/y");
  const Control& c = control(in);
  ASSERT_EQ(c.mount_count, 2u);
  EXPECT_EQ(std::string(c.mounts[0].path), "/data/deeper/y");  // longest first
  EXPECT_EQ(c.mounts[1].dataset_id, d->id());
  EXPECT_EQ(c.mounts[1].version, 1u);
  EXPECT_EQ(c.mounts[1].file_count, 10u);
  EXPECT_EQ(c.generation % 2, 0u);
  std::string names = fmt::format("{}/ns/{}", out.config.cache_dir, catalog_name(c.namespace_version).c_str());
  std::ifstream file(names, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(file), {}};
  Catalog n;
  ASSERT_TRUE(n.attach(bytes.data(), bytes.size()));
  EXPECT_EQ(n.entries[n.find("data/deeper", 11)].type, EntryType::kDirectory);
  EXPECT_EQ(n.entries[n.find("data/deeper/y", 13)].type, EntryType::kMount);
  ASSERT_TRUE(in.datasets.umount("/data/deeper/y").ok());
  EXPECT_EQ(c.mount_count, 1u);
  EXPECT_FALSE(std::filesystem::exists(names));
  EXPECT_EQ(in.datasets.umount("/data/deeper/y").error().code, ENOENT);
}

TEST_F(DatasetsTest, ARefreshCarriesOverWhatIsTheSameAndSaysWhatIsNot) {
  Inside in(out);
  auto d = in.mount();
  for (int i = 0; i < 5; ++i)
    in.read(d, fmt::format("a/f{}", i));
  uint64_t generation = control(in).generation;
  out.bucket->put("a/f0", "changed");
  out.bucket->put("b/new", "new");
  out.bucket->remove("a/f1");
  Result<RefreshResult> r = in.datasets.refresh(d->def.name, {});
  ASSERT_TRUE(r.ok());
  EXPECT_EQ(r->added, 1u);
  EXPECT_EQ(r->changed, 1u);
  EXPECT_EQ(r->removed, 1u);
  EXPECT_GT(control(in).generation.load(), generation);
  EXPECT_EQ(control(in).mounts[0].version, 2u);
  EXPECT_EQ(in.state(d, "a/f0"), kAbsent);
  EXPECT_EQ(in.state(d, "a/f2"), kResident);
  EXPECT_EQ(in.state(d, "b/new"), kAbsent);
  EXPECT_EQ(in.cache.usage().files, 3u);
  std::string folder = fmt::format("{}/{:016x}/", out.config.cache_dir, d->id());
  EXPECT_FALSE(std::filesystem::exists(folder + std::string(catalog_name(1))));
  EXPECT_FALSE(std::filesystem::exists(folder + std::string(residency_name(1))));
  // Nothing changed: no new version, and running programs need not look again.
  generation = control(in).generation;
  EXPECT_EQ(in.datasets.refresh(d->def.name, {})->info.version, 2u);
  EXPECT_EQ(control(in).generation.load(), generation);
}

TEST_F(DatasetsTest, MountsComeBackAlsoWithTheBucketUnreachable) {
  {
    Inside in(out);
    auto d = in.mount();
    in.read(d, "a/f3");
  }
  out.bucket->list_error = make_error(EIO, "unreachable");
  Inside in(out);
  ASSERT_TRUE(in.datasets.start().ok());
  ASSERT_EQ(in.datasets.mounts().size(), 1u);
  auto d = in.datasets.mounts()[0].dataset;
  EXPECT_EQ(in.state(d, "a/f3"), kResident);
  EXPECT_EQ(in.read(d, "a/f4"), "body 4");
  MountRequest r;
  r.path = "/data/x";
  r.source = "file:///bucket/data/x";
  r.refresh = true;
  Result<MountResult> m = in.datasets.mount(r, {});
  ASSERT_TRUE(m.ok());
  EXPECT_THAT(m->warnings.at(0), HasSubstr("unreachable"));
}

TEST_F(DatasetsTest, AMountThatFailsLeavesNothing) {
  Inside in(out);
  out.bucket->list_error = make_error(ENOENT, "no such bucket");
  MountRequest r;
  r.path = "/data/x";
  r.source = "file:///bucket/typo";
  Result<MountResult> m = in.datasets.mount(r, {});
  ASSERT_FALSE(m.ok());
  EXPECT_EQ(m.error().message, "no such bucket");
  EXPECT_TRUE(out.meta->defs.empty());
  EXPECT_TRUE(in.dir->dataset_folders().empty());
  EXPECT_TRUE(in.datasets.all().empty());
  EXPECT_EQ(control(in).mount_count, 0u);
  for (auto bad : {"relative", "/", "/a/../b"}) {
    r.path = bad;
    EXPECT_EQ(in.datasets.mount(r, {}).error().code, EINVAL);
  }
  r.path = "/data/x";
  r.source = "nonsense";
  EXPECT_FALSE(in.datasets.mount(r, {}).ok());
}

TEST_F(DatasetsTest, AMountPathThatIsTakenIsRefused) {
  Inside in(out);
  auto d = in.mount("/data/x");
  MountRequest r;
  r.path = "/data/x/";
  r.source = "file:///bucket/other";
  EXPECT_EQ(in.datasets.mount(r, {}).error().code, EEXIST);
  EXPECT_EQ(out.meta->defs.size(), 1u);
  r.source = "file:///bucket/data/x";
  EXPECT_EQ(in.datasets.mount(r, {})->name, d->def.name);
  EXPECT_EQ(out.bucket->lists, 1u);
}

TEST_F(DatasetsTest, TransientMountsSurviveACrashButNotAnEnd) {
  auto transient = [&](Inside& in) {
    MountRequest r;
    r.path = "/data/t";
    r.source = "file:///bucket/t";
    r.persist = false;
    EXPECT_TRUE(in.datasets.mount(r, {}).ok());
  };
  {
    Inside in(out);
    transient(in);
  }
  {
    Inside in(out);
    ASSERT_TRUE(in.datasets.start().ok());
    ASSERT_EQ(in.datasets.mounts().size(), 1u);
    ASSERT_TRUE(in.datasets.forget_transient_mounts().ok());
  }
  Inside in(out);
  ASSERT_TRUE(in.datasets.start().ok());
  EXPECT_TRUE(in.datasets.mounts().empty());
  EXPECT_EQ(control(in).mount_count, 0u);
}

TEST_F(DatasetsTest, ADamagedListOfMountsIsNamed) {
  for (auto text : {"", "[]", "{\"mounts\": 5}", "{\"mounts\": [5]}", "{\"mounts\": [{\"path\": \"/\"}]}",
                    "{\"mounts\": [{\"path\": \"/x\"}]}"}) {
    std::ofstream(out.config.state_dir + "/mounts.json", std::ios::trunc) << text;
    Inside in(out);
    Status s = in.datasets.start();
    ASSERT_FALSE(s.ok()) << text;
    EXPECT_THAT(s.error().message, HasSubstr("mounts.json"));
  }
}

TEST_F(DatasetsTest, SecretsAreNotStored) {
  Inside in(out);
  MountRequest r;
  r.path = "/data/x";
  r.source = "file:///bucket/x";
  r.options = {{"endpoint", "http://e"}, {"access_key", "AK"}, {"secret_key", "SK"}, {"session_token", "ST"}};
  Result<MountResult> m = in.datasets.mount(r, {});
  ASSERT_TRUE(m.ok());
  EXPECT_EQ(out.meta->defs[m->name].options, (StoreOptions{{"endpoint", "http://e"}}));
  // The same source at another endpoint is another dataset.
  EXPECT_NE(name_for_source("s3://b/p", {{"endpoint", "http://e"}}), name_for_source("s3://b/p", {}));
  EXPECT_LE(name_for_source("s3://" + std::string(300, 'x'), {}).size(), 63u);
}

TEST_F(DatasetsTest, MirrorsOfFoldersComeAndGo) {
  Inside in(out);
  out.bucket->put("b/f", "x");
  auto d = in.mount();
  uint64_t hash = path_hash("b", 1);
  Result<Fd> fd = open_mirror(d->mirrors.get(), in.dir->tmp_fd(), hash, d->id(), *in.inodes);
  ASSERT_TRUE(fd.ok());
  struct stat st;
  ::fstat(fd->get(), &st);
  EXPECT_EQ(st.st_mode & 0777, 0555u);
  std::string mirror = fmt::format("{}/{:016x}/m/{:016x}", out.config.cache_dir, d->id(), hash);
  EXPECT_THAT(std::filesystem::read_symlink(mirror + "/" + kNotPreloaded).string(), HasSubstr("liblarder.so"));
  Result<Fd> again = open_mirror(d->mirrors.get(), in.dir->tmp_fd(), hash, d->id(), *in.inodes);
  struct stat st2;
  ::fstat(again->get(), &st2);
  EXPECT_EQ(st.st_ino, st2.st_ino);
  out.bucket->remove("b/f");
  ASSERT_TRUE(in.datasets.refresh(d->def.name, {}).ok());
  EXPECT_FALSE(std::filesystem::exists(mirror));
}

}  // namespace
}  // namespace larder
