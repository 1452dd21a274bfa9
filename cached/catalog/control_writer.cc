#include "cached/catalog/control_writer.h"

#include <fmt/format.h>

#include <algorithm>

#include "cached/base/files.h"
#include "cached/base/log.h"
#include "cached/catalog/oid_name.h"
#include "larder/names.h"

namespace larder {

Result<std::unique_ptr<ControlWriter>> ControlWriter::start(CacheDir& dir, uint32_t wait_ms, Meter& meter) {
  std::unique_ptr<ControlWriter> p(new ControlWriter(dir, meter));
  if (Status s = p->init(wait_ms); !s) return s.error();
  return p;
}

Status ControlWriter::init(uint32_t wait_ms) {
  Result<Fd> stats = sealed_memory("larder-stats", kStatSlots * sizeof(StatSlot));
  if (!stats) return stats.error();
  Result<Mapping> map = Mapping::map(stats->get(), kStatSlots * sizeof(StatSlot), true);
  if (!map) return map.error();
  stats_ = std::move(*stats);
  stats_map_ = std::move(*map);
  MutexLock lock(view_);
  begin_locked();
  Control* c = dir_.control();
  ++c->epoch;
  c->wait_ms = wait_ms;
  c->uid = ::geteuid();
  c->gid = ::getegid();
  end_locked();
  return {};
}

// TSan does not know fences. These order the generation against the rest of control for other processes, which TSan
// does not see; this process reads of control nothing but atomics and, with the lock held, what it wrote itself.
#pragma GCC diagnostic push
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wtsan"
#endif

// The seqlock's writer side (shm.h, control, invariant 1). An odd generation that a crash left is gone on from.
void ControlWriter::begin_locked() {
  std::atomic<uint64_t>& g = dir_.control()->generation;
  g.store(g.load(std::memory_order_relaxed) | 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

void ControlWriter::end_locked() {
  std::atomic<uint64_t>& g = dir_.control()->generation;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  g.store(g.load(std::memory_order_relaxed) + 1, std::memory_order_release);
}
#pragma GCC diagnostic pop

static bool same_paths(const std::vector<MountView>& a, const std::vector<MountView>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](auto& x, auto& y) { return x.path == y.path; });
}

static void fill_mount(ControlMount& to, const MountView& from) {
  const CatalogHeader& h = *from.version->catalog().header;
  memset(static_cast<void*>(&to), 0, sizeof to);
  to.dataset_id = from.dataset_id;
  to.version = h.version;
  to.total_bytes = h.total_bytes;
  to.file_count = h.file_count;
  to.fallback = from.fallback;
  to.path_len = static_cast<uint32_t>(from.path.size());
  memcpy(to.path, from.path.data(), from.path.size());
}

Status ControlWriter::publish_mounts(std::vector<MountView> mounts) {
  if (mounts.size() > kMaxMounts)
    return make_error(ENOSPC, fmt::format("more than {} mounts; unmount one first", kMaxMounts));
  std::sort(mounts.begin(), mounts.end(), [](auto& a, auto& b) {
    return a.path.size() != b.path.size() ? a.path.size() > b.path.size() : a.path < b.path;
  });
  if (Status s = publish_sorted(std::move(mounts)); !s) return s;
  if (tell_) tell_();
  return {};
}

Status ControlWriter::publish_sorted(std::vector<MountView> mounts) {
  MutexLock one(publishing_);
  uint64_t names = dir_.control()->namespace_version;
  if (!published_ || !same_paths(mounts, hello().mounts)) {
    Result<uint64_t> written = write_namespace_locked(mounts);
    if (!written) return written.error();
    names = *written;
  }
  publish(std::move(mounts), names);
  published_ = true;
  remove_old_namespaces(names);
  return {};
}

void ControlWriter::publish(std::vector<MountView> mounts, uint64_t names) {
  MutexLock lock(view_);
  Control* c = dir_.control();
  begin_locked();
  c->namespace_version = mounts.empty() ? 0 : names;
  c->mount_count = static_cast<uint32_t>(mounts.size());
  for (size_t i = 0; i < mounts.size(); ++i)
    fill_mount(c->mounts[i], mounts[i]);
  end_locked();
  mounts_.swap(mounts);
}

void ControlWriter::publish_inode_table(uint64_t id) {
  {
    MutexLock lock(view_);
    begin_locked();
    dir_.control()->inode_table = id;
    end_locked();
  }
  if (tell_) tell_();
}

// A version number that no file in the folder has: a crash may have left one that control never named.
static uint64_t next_namespace_version(const CacheDir& dir) {
  uint64_t version = dir.control()->namespace_version;
  (void)for_each_name(dir.namespace_fd(), [&](const char* name) {
    uint64_t v = 0;
    std::string_view n = name;
    if (parse_numbered(n, kCatalogPrefix, &v) && v < (uint64_t{1} << 62)) version = std::max(version, v);
  });
  return version + 1;
}

Result<uint64_t> ControlWriter::write_namespace_locked(const std::vector<MountView>& mounts) {
  std::vector<std::string> keys;
  keys.reserve(mounts.size());
  for (const MountView& m : mounts)
    keys.push_back(m.path.substr(1));
  std::sort(keys.begin(), keys.end(), [](auto& a, auto& b) { return a + "/" < b + "/"; });
  CatalogBuilder builder(0);
  int64_t now = wall_ns();
  for (const std::string& key : keys)
    if (Status s = builder.add_mount_point(key, now); !s) return s.error();
  uint64_t version = next_namespace_version(dir_);
  Result<CatalogImage> image = builder.finish(version, now);
  if (!image) return image.error();
  Result<Fd> fd = unnamed_file(dir_.tmp_fd());
  if (!fd) return fd.error();
  if (Status s = write_catalog(std::move(*image), fd->get()); !s) return s.error();
  Result<Mapping> map = Mapping::map(fd->get(), image->file_bytes(), false);
  if (!map) return map.error();
  if (Status s = link_file_over(fd->get(), dir_.tmp_fd(), dir_.namespace_fd(), std::string(catalog_name(version))); !s)
    return s.error();
  charge_ = Charge(meter_, on_disk(image->file_bytes()));
  auto names = std::make_shared<const Mapping>(std::move(*map));
  MutexLock lock(view_);
  namespace_.swap(names);
  return version;
}

void ControlWriter::remove_old_namespaces(uint64_t current) {
  const CacheName keep = catalog_name(current);
  (void)for_each_name(dir_.namespace_fd(), [&](const char* name) {
    if (std::string_view(name).starts_with(kCatalogPrefix) && keep != std::string_view(name))
      ::unlinkat(dir_.namespace_fd(), name, 0);
  });
}

HelloView ControlWriter::hello() const {
  MutexLock lock(view_);
  return HelloView{generation(), mounts_};
}

std::string ControlWriter::control_bytes() const {
  MutexLock lock(view_);
  return std::string(reinterpret_cast<const char*>(dir_.control()), sizeof(Control));
}

std::shared_ptr<const Mapping> ControlWriter::namespace_catalog() const {
  MutexLock lock(view_);
  return mounts_.empty() ? nullptr : namespace_;
}

StatTotals ControlWriter::stats() const {
  StatTotals t;
  auto* slots = static_cast<const StatSlot*>(stats_map_.data());
  for (uint32_t i = 0; i < kStatSlots; ++i) {
    t.warm_opens += slots[i].warm_opens.load(std::memory_order_relaxed);
    t.warm_bytes += slots[i].warm_bytes.load(std::memory_order_relaxed);
    t.miss_opens += slots[i].miss_opens.load(std::memory_order_relaxed);
    t.stats += slots[i].stats.load(std::memory_order_relaxed);
    t.lists += slots[i].lists.load(std::memory_order_relaxed);
    t.errors += slots[i].errors.load(std::memory_order_relaxed);
  }
  return t;
}

}  // namespace larder
