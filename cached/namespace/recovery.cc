#include "cached/namespace/recovery.h"

#include <fmt/format.h>

#include <algorithm>

#include "cached/base/files.h"
#include "cached/base/log.h"
#include "cached/catalog/directory_handles.h"

namespace larder {

static constexpr std::chrono::seconds kRetryMounts{30};

Status Recovery::take_over_folders() {
  adopt_mirrors(p_.dir.namespace_mirrors_fd(), 0, p_.inodes);
  Result<std::vector<DatasetDef>> defs = p_.definitions.all();
  if (!defs) return defs.error();
  for (uint64_t id : p_.dir.dataset_folders()) {
    auto it = std::find_if(defs->begin(), defs->end(), [&](const DatasetDef& def) { return def.id == id; });
    DatasetDef def;
    if (it != defs->end()) def = *it;
    def.id = id;
    if (Result<std::shared_ptr<Dataset>> d = p_.registry.open(def); !d)
      spdlog::warn("cache folder {:016x} cannot be taken over: {}", id, d.error().message);
  }
  for (const std::string& name : p_.dir.unknown_names())
    spdlog::warn("{}/{} is not Larder's; left alone", p_.dir.home().name(), shown(name));
  return {};
}

static constexpr const char* kFirstAttempt = "it is being mounted for the first time since larderd started";

// If it fails it waits, with its trouble. What was logged before is not logged again.
void Recovery::try_mount(const MountRequest& r) {
  MountRequest now = r;
  now.asked = std::chrono::steady_clock::now();
  Result<MountResult> mounted = p_.mounter.mount(now, {});
  if (mounted) return;
  const std::string& why = mounted.error().message;
  const std::vector<WaitingMount> waiting = p_.registry.waiting();
  const bool known = std::any_of(waiting.begin(), waiting.end(),
                                 [&](const WaitingMount& w) { return w.request.path == r.path && w.trouble == why; });
  if (known) return;
  spdlog::error("{} cannot be mounted at {}: {}; tried again every {} s", shown(r.source.empty() ? r.name : r.source),
                shown(r.path), why, kRetryMounts.count());
  p_.registry.add_waiting({r, why});
}

void Recovery::begin(const MountRequest& r) {
  {
    MutexLock lock(mutex_);
    if (stopping_ || !trying_.insert(r.path).second) return;
  }
  const auto attempt = [this, r] {
    try_mount(r);
    MutexLock lock(mutex_);
    trying_.erase(r.path);
    wake_.notify_all();
  };
  if (attempts_.run(attempt)) return;
  MutexLock lock(mutex_);
  trying_.erase(r.path);  // too many at once: with the next round
}

std::vector<MountRequest> Recovery::stored(const std::vector<StoredMount>& list) const {
  std::vector<MountRequest> out;
  for (const StoredMount& m : list) {
    bool in_config =
        std::any_of(p_.config.mounts.begin(), p_.config.mounts.end(), [&](auto& c) { return c.path == m.path; });
    if (in_config || (!m.persist && m.instance != p_.publisher.instance())) continue;
    MountRequest& r = out.emplace_back();
    r.path = m.path;
    r.name = m.dataset;
    r.source = m.source;
    r.fallback = m.fallback;
    r.fill = m.fill;
    r.policy = m.policy;
    r.quota = m.quota;
    r.persist = m.persist;
  }
  return out;
}

std::vector<MountRequest> Recovery::configured() const {
  std::vector<MountRequest> out;
  for (const MountConfig& m : p_.config.mounts) {
    MountRequest& r = out.emplace_back();
    r.path = m.path;
    r.name = m.dataset;
    r.source = m.source;
    r.fallback = m.fallback;
    r.fill = m.fill.value_or(p_.config.fill);
    r.policy = m.policy.value_or(p_.config.policy);
    r.quota = m.quota ? m.quota->of(p_.cache.limits().cache_size) : 0;
    r.persist = false;
    r.from_config = true;
  }
  return out;
}

void Recovery::await_first_attempts() {
  const auto deadline = std::chrono::steady_clock::now() + kStartPatience;
  MutexLock lock(mutex_);
  while (!trying_.empty())
    if (!wake_.wait_until(mutex_, deadline)) break;
  for (const std::string& path : trying_)
    spdlog::warn("{} is not mounted yet after {} s; the others are served meanwhile", shown(path),
                 kStartPatience.count());
}

Status Recovery::start() {
  if (Status s = take_over_folders(); !s) return s;
  Result<std::vector<StoredMount>> list = p_.registry.load_list();
  if (!list) return list.error();
  std::vector<MountRequest> mounts = stored(*list);
  for (MountRequest& r : configured())
    mounts.push_back(std::move(r));
  for (const MountRequest& r : mounts)
    p_.registry.add_waiting({r, kFirstAttempt});  // until it is mounted
  for (const MountRequest& r : mounts)
    begin(r);
  await_first_attempts();
  if (Status s = p_.registry.publish(); !s) return s;  // also if nothing is mounted: control may still name what was
  for (const Mount& m : p_.registry.mounts())
    if (std::shared_ptr<CatalogVersion> v = m.dataset->version()) Versions::remove_others(*m.dataset, v->version());
  background_ = std::thread([this] { run_background(); });
  return {};
}

void Recovery::run_background() {
  auto next = std::chrono::steady_clock::now() + kRetryMounts;
  MutexLock lock(mutex_);
  while (!stopping_) {
    wake_.wait_until(mutex_, next);
    if (stopping_ || std::chrono::steady_clock::now() < next) continue;
    lock.unlock();
    for (const WaitingMount& w : p_.registry.waiting())
      begin(w.request);
    next = std::chrono::steady_clock::now() + kRetryMounts;
    lock.lock();
  }
}

void Recovery::stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
  }
  if (background_.joinable()) background_.join();
  attempts_.stop();
}

}  // namespace larder
