#include "cached/namespace/registry.h"

#include <fmt/format.h>

#include <algorithm>

#include "cached/base/files.h"
#include "cached/base/log.h"
#include "cached/catalog/directory_handles.h"
#include "larder/names.h"

namespace larder {

static std::string list_file(const Config& c) {
  if (!c.is_private) return c.state_dir + "/mounts.json";
  return fmt::format("{}/mounts-{:016x}.json", c.state_dir, XXH3_64bits(c.cache_dir.data(), c.cache_dir.size()));
}

Registry::Registry(Parts parts)
    : p_(parts), list_(list_file(parts.config)), current_(std::make_shared<const Snapshot>()) {}

// ---- readers --------------------------------------------------------------------------------------------------------

std::shared_ptr<const Registry::Snapshot> Registry::snapshot() const {
  MutexLock lock(current_lock_);
  return current_;
}

std::shared_ptr<Dataset> Registry::find(uint64_t id) const {
  const auto now = snapshot();
  auto it = now->datasets.find(id);
  return it == now->datasets.end() ? nullptr : it->second;
}

std::vector<Mount> Registry::mounts() const {
  return snapshot()->mounts;
}

std::vector<std::shared_ptr<Dataset>> Registry::all() const {
  const auto now = snapshot();
  std::vector<std::shared_ptr<Dataset>> all;
  for (auto& [id, dataset] : now->datasets)
    all.push_back(dataset);
  return all;
}

std::pair<Mount, std::string> Registry::at_path(const std::string& path) const {
  const auto now = snapshot();
  const Mount* best = nullptr;
  for (const Mount& m : now->mounts) {
    bool inside = path == m.path || (path.starts_with(m.path) && path[m.path.size()] == '/');
    if (inside && (!best || m.path.size() > best->path.size())) best = &m;
  }
  if (!best) return {};
  return {*best, path.size() > best->path.size() ? path.substr(best->path.size() + 1) : ""};
}

std::shared_ptr<Dataset> Registry::mounted(const std::string& name) const {
  const auto now = snapshot();
  for (const Mount& m : now->mounts)
    if (m.dataset->def.name == name && m.dataset->version()) return m.dataset;
  return nullptr;
}

std::vector<WaitingMount> Registry::waiting() const {
  return snapshot()->waiting;
}

void Registry::replace(Snapshot next) {
  auto now = std::make_shared<const Snapshot>(std::move(next));
  MutexLock lock(current_lock_);
  current_.swap(now);  // what was current is freed after the lock
}

// ---- datasets -------------------------------------------------------------------------------------------------------

Result<std::shared_ptr<Dataset>> Registry::open(const DatasetDef& def) {
  MutexLock lock(changing_);
  Snapshot next = *snapshot();
  auto it = next.datasets.find(def.id);
  if (it != next.datasets.end() && it->second->def.name == def.name) return it->second;
  if (it != next.datasets.end()) p_.cache.remove(*it->second);  // a leftover whose name was not known
  Result<std::shared_ptr<Dataset>> d = Dataset::open(def, p_.dir, p_.meter);
  if (!d) return d;
  (*d)->fill = p_.config.fill;
  (*d)->policy = p_.config.policy;
  adopt_mirrors((*d)->mirrors.get(), def.id, p_.inodes);
  p_.cache.add(*d);
  next.datasets[def.id] = *d;
  replace(std::move(next));
  return d;
}

void Registry::forget(const std::shared_ptr<Dataset>& d) {
  MutexLock lock(changing_);
  Snapshot next = *snapshot();
  p_.cache.remove(*d);
  next.datasets.erase(d->id());
  replace(std::move(next));
  for (const char* file : {kChecksumFile, kPinFile})
    ::unlinkat(d->folder_fd(), file, 0);
  ::unlinkat(d->folder_fd(), kMirrorFolder, AT_REMOVEDIR);
  for (const CacheName& folder : {dataset_path(d->id()), chunks_path(d->id())})
    ::unlinkat(p_.dir.fd(), folder.c_str(), AT_REMOVEDIR);
}

static bool uses(const std::vector<Mount>& mounts, const Dataset& d) {
  return std::any_of(mounts.begin(), mounts.end(), [&](const Mount& m) { return m.dataset.get() == &d; });
}

bool Registry::drop_unused(Dataset& d) {
  MutexLock lock(changing_);
  if (uses(snapshot()->mounts, d)) return false;
  p_.cache.drop_version(d);
  return true;
}

Result<std::shared_ptr<CatalogVersion>> Registry::switch_version(Dataset& d,
                                                                 const std::shared_ptr<CatalogVersion>& before,
                                                                 const std::shared_ptr<CatalogVersion>& next,
                                                                 const std::vector<ObjectCache::Match>& matches) {
  MutexLock lock(changing_);
  if (!before || d.version() != before) return std::shared_ptr<CatalogVersion>();
  std::shared_ptr<CatalogVersion> old = p_.cache.switch_version(d, next, matches);
  if (Status s = publish(*snapshot()); !s) return s.error();
  return old;
}

// ---- mounts ---------------------------------------------------------------------------------------------------------

Status Registry::put_mount(Snapshot& next, const MountRequest& r, const std::shared_ptr<Dataset>& d) const {
  auto it = std::find_if(next.mounts.begin(), next.mounts.end(), [&](const Mount& m) { return m.path == r.path; });
  Mount mount{r.path, d, r.fallback, r.persist, r.from_config};
  if (it == next.mounts.end()) {
    if (next.mounts.size() >= kMaxMounts)
      return make_error(ENOSPC, fmt::format("there are {} mounts already; unmount one first", kMaxMounts));
    next.mounts.push_back(mount);
    return {};
  }
  if (it->dataset != d)
    return make_error(EEXIST, fmt::format("{} is mounted with {}; unmount it first", r.path, it->dataset->def.source));
  mount.persist = mount.persist || it->persist;
  *it = mount;
  return {};
}

Status Registry::add_mount(const MountRequest& r, const std::shared_ptr<Dataset>& d) {
  MutexLock lock(changing_);
  if (!d->version()) return make_error(ESTALE, fmt::format("{} was unmounted meanwhile", d->def.source));
  Snapshot next = *snapshot();
  if (!next.datasets.contains(d->id()))
    return make_error(ESTALE, fmt::format("{} was forgotten meanwhile", d->def.source));
  if (Status s = put_mount(next, r, d); !s) return s;
  std::erase_if(next.waiting, [&](const WaitingMount& w) { return w.request.path == r.path; });
  if (r.fill) d->fill = *r.fill;
  p_.cache.configure(*d, r.policy, r.quota);
  Status s = publish(next);
  if (s) s = save(next);
  if (!s) {
    (void)publish(*snapshot());
    return s;
  }
  replace(std::move(next));
  d->used_now();
  return {};
}

Status Registry::remove_mount(const std::string& path) {
  MutexLock lock(changing_);
  Snapshot next = *snapshot();
  const size_t waited = std::erase_if(next.waiting, [&](const WaitingMount& w) { return w.request.path == path; });
  auto it = std::find_if(next.mounts.begin(), next.mounts.end(), [&](const Mount& m) { return m.path == path; });
  if (it == next.mounts.end()) {
    if (waited == 0)
      return make_error(ENOENT, fmt::format("nothing is mounted at {}; larder status lists the mounts", path));
    replace(next);
    return save(next);
  }
  std::shared_ptr<Dataset> d = it->dataset;
  next.mounts.erase(it);
  if (Status s = publish(next); !s) return s;
  replace(next);
  if (!uses(next.mounts, *d)) {
    p_.filler.stop(*d);
    p_.cache.drop_version(*d);
  }
  spdlog::info("{} is unmounted", path);
  return save(next);
}

Status Registry::forget_transient() {
  MutexLock lock(changing_);
  Snapshot next = *snapshot();
  std::erase_if(next.mounts, [](const Mount& m) { return !m.persist && !m.from_config; });
  std::erase_if(next.waiting, [](const WaitingMount& w) { return !w.request.persist && !w.request.from_config; });
  if (Status s = publish(next); !s) return s;
  replace(next);
  return save(next);
}

void Registry::add_waiting(WaitingMount mount) {
  MutexLock lock(changing_);
  Snapshot next = *snapshot();
  std::erase_if(next.waiting, [&](const WaitingMount& w) { return w.request.path == mount.request.path; });
  next.waiting.push_back(std::move(mount));
  replace(std::move(next));
}

void Registry::remove_waiting(const std::string& path) {
  MutexLock lock(changing_);
  Snapshot next = *snapshot();
  std::erase_if(next.waiting, [&](const WaitingMount& w) { return w.request.path == path; });
  replace(std::move(next));
}

Status Registry::publish() {
  MutexLock lock(changing_);
  return publish(*snapshot());
}

Status Registry::publish(const Snapshot& snapshot) {
  std::vector<MountView> views;
  for (const Mount& m : snapshot.mounts)
    views.push_back(MountView{m.path, m.dataset->version(), m.dataset->id(), m.fallback, m.dataset->group});
  return p_.publisher.publish_mounts(std::move(views));
}

Status Registry::save(const Snapshot& snapshot) {
  std::vector<StoredMount> stored;
  for (const Mount& m : snapshot.mounts) {
    if (m.from_config) continue;
    stored.push_back({m.path, m.dataset->def.name, m.dataset->def.source, m.fallback, m.dataset->fill,
                      m.dataset->policy, m.dataset->quota, m.persist, p_.publisher.instance()});
  }
  for (const WaitingMount& w : snapshot.waiting) {
    const MountRequest& r = w.request;
    if (r.from_config) continue;
    stored.push_back({r.path, r.name, r.source, r.fallback, r.fill.value_or(p_.config.fill),
                      r.policy.value_or(p_.config.policy), r.quota.value_or(0), r.persist, p_.publisher.instance()});
  }
  return list_.save(stored);
}

}  // namespace larder
