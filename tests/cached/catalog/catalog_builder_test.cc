#include "cached/catalog/catalog_builder.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <random>
#include <set>

#include "cached/base/fd.h"
#include "cached/base/files.h"
#include "cached/catalog/catalog_check.h"

namespace larder {
namespace {

ObjectInfo object(std::string key, uint64_t size = 1, int64_t mtime = 1, std::string etag = "e") {
  return ObjectInfo{std::move(key), size, mtime, std::move(etag)};
}

CatalogImage build(std::vector<ObjectInfo> objects, SkippedKeys* skipped = nullptr) {
  std::sort(objects.begin(), objects.end(), [](auto& a, auto& b) { return a.key < b.key; });
  CatalogBuilder builder(7);
  for (auto& o : objects)
    EXPECT_TRUE(builder.add(o).ok());
  Result<CatalogImage> image = builder.finish(3, 42);
  EXPECT_TRUE(image.ok());
  if (skipped) *skipped = builder.skipped();
  return std::move(*image);
}

std::string bytes_of(const CatalogImage& image) {
  Fd fd(::open("/tmp", O_TMPFILE | O_RDWR, 0600));
  EXPECT_TRUE(write_catalog(CatalogImage(image), fd.get()).ok());
  std::string bytes(image.file_bytes(), 0);
  EXPECT_EQ(::pread(fd.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  return bytes;
}

Status validate(const std::string& bytes) {
  Mapping copy;  // aligned, as a mapping is
  Fd fd(::open("/tmp", O_TMPFILE | O_RDWR, 0600));
  EXPECT_TRUE(pwrite_all(fd.get(), bytes.data(), bytes.size(), 0).ok());
  Result<Mapping> map = Mapping::map(fd.get(), bytes.size(), false);
  return valid_catalog(map->data(), bytes.size(), 7, 3);
}

uint32_t find(const Catalog& c, std::string_view path) {
  return c.find(path.data(), path.size());
}

std::vector<std::string> children(const Catalog& c, std::string_view path) {
  std::vector<std::string> names;
  const CatalogEntry& e = c.entries[find(c, path)];
  for (uint32_t k = 0; k < e.dir.child_count; ++k) {
    const CatalogEntry& child = c.entries[e.dir.first_child + k];
    names.emplace_back(c.name(child), child.name_len);
  }
  return names;
}

TEST(CatalogBuilder, EveryFileAndFolderIsFoundWithItsAttributes) {
  CatalogImage image =
      build({object("a/b/c.jpg", 10, 100, "tag1"), object("a/d", 20, 300, ""), object("z", 0, 50, "t")});
  Catalog c = image.view();
  EXPECT_EQ(c.entry_count, 6u);
  const CatalogEntry& e = c.entries[find(c, "a/b/c.jpg")];
  EXPECT_TRUE(e.is_file());
  EXPECT_EQ(e.size, 10u);
  EXPECT_EQ(e.mtime_ns, 100);
  EXPECT_EQ(std::string(c.etag(e), e.etag_len), "tag1");
  EXPECT_EQ(e.oid, make_object_id(7, {"a/b/c.jpg", 10, 100, "tag1"}));
  EXPECT_TRUE(c.entries[find(c, "a/b")].is_dir());
  EXPECT_EQ(c.entries[find(c, "a")].mtime_ns, 300);
  EXPECT_EQ(c.entries[find(c, "a")].dir.subdirectory_count, 1u);
  EXPECT_EQ(find(c, "a/b/c.jp"), kNoEntry);
  EXPECT_EQ(find(c, "b/c.jpg"), kNoEntry);
  EXPECT_EQ(c.find_directory(path_hash("a/b", 3)), find(c, "a/b"));
  EXPECT_EQ(image.header.total_bytes, 30u);
}

// '-' and '.' sort before '/', so the listing visits "a-b/x" before "a/x"; readdir must still find sorted children.
TEST(CatalogBuilder, ChildrenAreSortedByNameWhateverTheOrderOfKeys) {
  CatalogImage image =
      build({object("a/x"), object("a-b/x"), object("a.b"), object("a0"), object("a/y-1/q"), object("a/y/q")});
  Catalog c = image.view();
  EXPECT_EQ(children(c, ""), (std::vector<std::string>{"a", "a-b", "a.b", "a0"}));
  EXPECT_EQ(children(c, "a"), (std::vector<std::string>{"x", "y", "y-1"}));
  EXPECT_TRUE(validate(bytes_of(image)).ok());
}

// S6: Folders are implied; an empty object whose key ends in `/` makes an empty folder.
TEST(CatalogBuilder, MarkersMakeFoldersOfTheirOwn) {
  CatalogImage image = build({object("empty/", 0, 77), object("full/", 0, 5), object("full/x", 1, 9), object("", 0)});
  Catalog c = image.view();
  EXPECT_TRUE(c.entries[find(c, "empty")].is_dir());
  EXPECT_EQ(c.entries[find(c, "empty")].mtime_ns, 77);
  EXPECT_EQ(c.entries[find(c, "full")].mtime_ns, 9);
  EXPECT_EQ(image.header.skipped, 0u);
}

// S7: Keys that no path can name are not shown: `a//b`, `.` or `..` as a component, a component over 255 bytes, NUL, a
// key that is also a folder.
TEST(CatalogBuilder, KeysThatNoPathCanNameAreReportedNotLost) {
  std::vector<std::string> bad = {
      "/lead", "a//b",  "a/./b", "a/../b", ".", "..", "x/" + std::string(256, 'n'), std::string("n\0l", 3),
      "both",  "d/both"};
  std::vector<ObjectInfo> objects;
  for (auto& key : bad)
    objects.push_back(object(key));
  std::string deep;
  for (int i = 0; i < 2000; ++i)
    deep += "abc/";
  objects.push_back(object(deep + "f"));
  objects.push_back(object("marker-with-bytes/", 5));
  for (auto key : {"both/in", "d/both/", "ok"})
    objects.push_back(object(key, key[0] == 'd' ? 0 : 1));
  SkippedKeys skipped;
  CatalogImage image = build(objects, &skipped);
  bad.push_back(deep + "f");
  bad.push_back("marker-with-bytes/");
  EXPECT_EQ(std::set<std::string>(skipped.examples.begin(), skipped.examples.end()),
            std::set<std::string>(bad.begin(), bad.end()));
  EXPECT_EQ(image.header.skipped, bad.size());
  Catalog c = image.view();
  EXPECT_EQ(children(c, ""), (std::vector<std::string>{"both", "d", "ok"}));
  EXPECT_TRUE(c.entries[find(c, "both")].is_dir());
  EXPECT_EQ(image.header.file_count, 2u);
  EXPECT_TRUE(validate(bytes_of(image)).ok());
}

TEST(CatalogBuilder, ExamplesAreBounded) {
  SkippedKeys skipped;
  std::vector<ObjectInfo> objects;
  for (int i = 0; i < 500; ++i)
    objects.push_back(object(fmt::format("a//{:03}", i)));
  build(objects, &skipped);
  EXPECT_EQ(skipped.count, 500u);
  EXPECT_EQ(skipped.examples.size(), SkippedKeys::kMaxExamples);
}

TEST(CatalogBuilder, AListingOutOfOrderIsRefused) {
  CatalogBuilder builder(7);
  EXPECT_TRUE(builder.add(object("b")).ok());
  EXPECT_EQ(builder.add(object("a")).error().code, EINVAL);
  EXPECT_EQ(builder.add(object("b")).error().code, EINVAL);
}

TEST(CatalogBuilder, AnEmptyDatasetHasARoot) {
  CatalogImage image = build({});
  EXPECT_EQ(find(image.view(), ""), 0u);
  EXPECT_TRUE(validate(bytes_of(image)).ok());
}

TEST(CatalogBuilder, MountPointsAndTheFoldersAboveThem) {
  CatalogBuilder builder(0);
  for (auto path : {"data", "data/inner/x", "mnt/deep/y"})
    EXPECT_TRUE(builder.add_mount_point(path, 9).ok());
  Result<CatalogImage> image = builder.finish(1, 9);
  Catalog c = image->view();
  EXPECT_EQ(c.entries[find(c, "data")].type, EntryType::kMount);
  EXPECT_EQ(c.entries[find(c, "data/inner")].type, EntryType::kDirectory);
  EXPECT_EQ(c.entries[find(c, "data/inner/x")].type, EntryType::kMount);
  EXPECT_EQ(c.entries[find(c, "mnt/deep")].type, EntryType::kDirectory);
}

// A store whose etags are missing or constant shows a change by the time alone.
TEST(ObjectId, EverythingThatAListingTellsNamesTheVersion) {
  const ObjectId id = make_object_id(1, {"a", 1, 5, "c"});
  EXPECT_EQ(id, make_object_id(1, {"a", 1, 5, "c"}));
  EXPECT_NE(id, make_object_id(2, {"a", 1, 5, "c"}));
  EXPECT_NE(id, make_object_id(1, {"b", 1, 5, "c"}));
  EXPECT_NE(id, make_object_id(1, {"a", 2, 5, "c"}));
  EXPECT_NE(id, make_object_id(1, {"a", 1, 6, "c"}));
  EXPECT_NE(id, make_object_id(1, {"a", 1, 5, "d"}));
  EXPECT_NE(make_object_id(1, {"a", 1, 5, ""}), make_object_id(1, {"a", 1, 6, ""}));
  EXPECT_NE(make_object_id(1, {"ab", 1, 5, "c"}), make_object_id(1, {"a", 1, 5, "bc"})) << "framed";
}

// Random trees against a plain map.
TEST(CatalogBuilder, RandomTreesAgreeWithAPlainMap) {
  for (int seed = 0; seed < 30; ++seed) {
    std::mt19937 random(seed);
    std::map<std::string, uint64_t> model;
    const char* names[] = {"a", "b", "a-", "a.b", "A", "\xff\xfe", "ab", " "};
    for (int i = 0; i < 300; ++i) {
      std::string key;
      for (unsigned depth = random() % 4; depth-- > 0;)
        key += names[random() % 8] + std::string("/");
      model[key + "f" + std::to_string(random() % 50)] = random() % 1000;
    }
    std::vector<ObjectInfo> objects;
    for (auto& [key, size] : model)
      objects.push_back(object(key, size));
    CatalogImage image = build(objects);
    Catalog c = image.view();
    EXPECT_EQ(image.header.file_count, model.size());
    for (auto& [key, size] : model) {
      uint32_t i = find(c, key);
      ASSERT_NE(i, kNoEntry) << key;
      EXPECT_EQ(c.entries[i].size, size);
    }
    ASSERT_TRUE(validate(bytes_of(image)).ok());
  }
}

// A catalog left on disk is untrusted: the checksum finds a single changed byte, and with a valid checksum the
// invariants are still checked.
TEST(ValidCatalog, AnyChangedByteIsFound) {
  std::string good = bytes_of(build({object("a/b/c", 1, 2, "t"), object("a/d", 3), object("e", 4)}));
  ASSERT_TRUE(validate(good).ok());
  for (size_t at = 0; at < good.size(); ++at) {
    std::string bad = good;
    bad[at] ^= 0x41;
    bool unchecked = at >= offsetof(CatalogHeader, published_ns) && at < offsetof(CatalogHeader, published_ns) + 8;
    unchecked |= at >= offsetof(CatalogHeader, skipped) && at < sizeof(CatalogHeader);
    EXPECT_TRUE(unchecked || !validate(bad).ok()) << at;
    uint64_t sum = XXH3_64bits(bad.data() + 144, bad.size() - 144);
    memcpy(bad.data() + offsetof(CatalogHeader, checksum), &sum, 8);
    (void)validate(bad);  // must not read outside (ASan)
  }
  for (size_t len = 0; len < good.size(); len += 7)
    EXPECT_FALSE(validate(good.substr(0, len + 1)).ok());
}

TEST(CatalogBuilder, MeasuresOneMillionEntries) {
  using Clock = std::chrono::steady_clock;
  std::vector<ObjectInfo> objects;
  for (int d = 0; d < 1000; ++d)
    for (int f = 0; f < 1000; ++f)
      objects.push_back(object(fmt::format("train/n{:08}/n{:08}_{:05}.JPEG", d, d, f), 110000, f,
                               "d41d8cd98f00b204e9800998ecf8427e"));
  auto start = Clock::now();
  CatalogBuilder builder(7);
  for (auto& o : objects)
    ASSERT_TRUE(builder.add(o).ok());
  Result<CatalogImage> image = builder.finish(3, 42);
  ASSERT_TRUE(image.ok());
  double built = std::chrono::duration<double>(Clock::now() - start).count();
  uint64_t names = 0;
  for (auto& e : image->entries)
    names += e.name_len;
  double each = double(image->file_bytes() - names) / image->header.entry_count;
  std::string bytes = bytes_of(*image);
  start = Clock::now();
  EXPECT_TRUE(validate(bytes).ok());
  double checked = std::chrono::duration<double>(Clock::now() - start).count();
  printf(
      "1 M entries: built in %.2f s, %.1f bytes an entry besides its name (etag of 32 bytes included), validated in "
      "%.2f s\n",
      built, each, checked);
  EXPECT_LE(each, 100.0);
}

}  // namespace
}  // namespace larder
