#include "cached/catalog/dataset.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include "cached/base/files.h"
#include "cached/base/group.h"
#include "cached/catalog/cache_dir.h"
#include "larder/names.h"

namespace larder {

uint64_t dataset_id(const std::string& name, const std::string& source) {
  std::string framed = name + '\0' + source;
  uint64_t id = XXH3_64bits(framed.data(), framed.size());
  return id ? id : 1;
}

static Result<std::optional<gid_t>> group_of(const DatasetDef& def) {
  if (def.group.empty()) return std::optional<gid_t>();
  Result<gid_t> id = group_id(def.group);
  if (!id) return make_error(EINVAL, fmt::format("dataset {}: {}", def.name, id.error().message));
  return std::optional<gid_t>(*id);
}

static Status set_access(int folder, const DatasetDef& def, std::optional<gid_t> group) {
  // Memory that a user made knows the user's own group alone (EOVERFLOW), and no other user gets in.
  if (group && ::fchown(folder, static_cast<uid_t>(-1), *group) != 0 && errno != EOVERFLOW)
    return os_error(fmt::format("dataset {}: cannot give its cache folder to group {}", def.name, def.group));
  if (::fchmod(folder, group ? 0750 : 0755) != 0) return os_error("cannot set the mode of a dataset's folder");
  return {};
}

// Restricted from the first moment: 0700 until group and mode are set.
static Result<Fd> open_folder(int cache, const CacheName& name, const DatasetDef& def, std::optional<gid_t> group) {
  Result<Fd> folder = make_dir(cache, name.c_str(), 0700);
  if (!folder) return folder;
  struct stat st;
  if (::fstat(folder->get(), &st) != 0 || st.st_uid != ::geteuid())
    return make_error(EACCES, "a dataset's folder belongs to another user");
  if (!def.name.empty())
    if (Status s = set_access(folder->get(), def, group); !s) return s.error();
  return folder;
}

Result<Dataset::Folders> Dataset::open_folders(const DatasetDef& def, std::optional<gid_t> group, const CacheDir& dir) {
  Result<Fd> files = open_folder(dir.fd(), dataset_path(def.id), def, group);
  if (!files) return files.error();
  Result<Fd> chunks = open_folder(dir.fd(), chunks_path(def.id), def, group);
  if (!chunks) return chunks.error();
  Result<Fd> mirrors = make_dir(files->get(), kMirrorFolder, 0755);
  if (!mirrors) return mirrors.error();
  return Folders{std::move(*files), std::move(*chunks), std::move(*mirrors)};
}

// When programs last used it, as a former daemon noted it (KnownDatasets).
static int64_t last_use_of(int folder) {
  struct stat st;
  return ::fstat(folder, &st) == 0 ? as_ns(st.st_mtim.tv_sec, st.st_mtim.tv_nsec) : 0;
}

Result<std::shared_ptr<Dataset>> Dataset::open(const DatasetDef& def, const CacheDir& dir, Meter& meter) {
  Result<std::optional<gid_t>> group = group_of(def);
  if (!group) return group.error();
  Fd before(::openat(dir.fd(), dataset_path(def.id).c_str(), O_PATH | O_CLOEXEC | O_NOFOLLOW));
  const int64_t used = before.valid() ? last_use_of(before.get()) : wall_ns();
  Result<Folders> folders = open_folders(def, *group, dir);
  if (!folders) return folders.error();
  Result<std::unique_ptr<ChecksumLog>> sums = ChecksumLog::open(folders->files.get(), dir.tmp_fd(), meter);
  if (!sums) return sums.error();
  std::shared_ptr<Dataset> d(new Dataset(def, *group, std::move(*folders), std::move(*sums)));
  d->last_use_ns = used;
  return d;
}

Fd Dataset::open_file(const char* name, int* where) const {
  for (int f : file_folders()) {
    Fd fd(::openat(f, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (!fd.valid() && errno == ENOENT) continue;
    if (where) *where = f;
    return fd;
  }
  return {};
}

std::shared_ptr<CatalogVersion> Dataset::version() const {
  MutexLock lock(mutex_);
  return version_;
}

void Dataset::set_version(std::shared_ptr<CatalogVersion> v) {
  MutexLock lock(mutex_);
  version_ = std::move(v);
}

Result<std::shared_ptr<Store>> Dataset::store() const {
  MutexLock lock(mutex_);
  if (!store_)
    return make_error(store_error_.code,
                      store_error_.message.empty() ? "no store for " + def.source : store_error_.message);
  return store_;
}

void Dataset::set_store(Result<std::shared_ptr<Store>> store) {
  MutexLock lock(mutex_);
  if (store_) retired_.push_back(std::move(store_));
  if (store)
    store_ = std::move(*store);
  else
    store_error_ = store.error();
}

void Dataset::drop_retired_stores() {
  std::vector<std::shared_ptr<Store>> gone;
  MutexLock lock(mutex_);
  for (auto& s : retired_)
    if (s.use_count() == 1 && s->counters().in_flight == 0) gone.push_back(std::move(s));
  std::erase(retired_, nullptr);
}

std::string Dataset::trouble() const {
  MutexLock lock(mutex_);
  return trouble_;
}

void Dataset::set_trouble(std::string what) {
  MutexLock lock(mutex_);
  trouble_ = std::move(what);
}

void Dataset::used_now() {
  last_use_ns.store(wall_ns(), std::memory_order_relaxed);
}

Object object_at(std::shared_ptr<Dataset> dataset, const CatalogVersion& version, uint32_t entry) {
  const CatalogEntry& e = version.catalog().entries[entry];
  return Object{
      std::move(dataset), version.path_of(entry), e.oid, e.size, e.mtime_ns, std::string(version.etag_of(entry))};
}

}  // namespace larder
