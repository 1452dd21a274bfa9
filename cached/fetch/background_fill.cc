#include "cached/fetch/background_fill.h"

#include <algorithm>

namespace larder {

static constexpr size_t kMaxFolders = 64;       // folders remembered; the rest come with the listing
static constexpr uint32_t kMaxScan = 1u << 17;  // entries looked at in one call, which runs under ObjectFetcher's lock
static constexpr int kMaxRefused = 32;          // objects in a row that found no room: the cache is full
static constexpr int kMaxFailed = 8;            // errors in a row: the store is in trouble
static constexpr std::chrono::seconds kRest{30};  // then wait so long

void BackgroundFill::follow_version(Fill& f, const CatalogVersion& v) {
  if (f.version == v.version()) return;
  f.version = v.version();
  f.folders.clear();
  f.cursor = 0;
  f.paused = false;
  f.refused_size = 0;
}

void BackgroundFill::push_folder(Fill& f, uint32_t folder) {
  auto it = std::find_if(f.folders.begin(), f.folders.end(), [&](const Folder& x) { return x.entry == folder; });
  Folder found{folder, 0};
  if (it != f.folders.end()) {
    found = *it;
    f.folders.erase(it);
  }
  f.folders.push_front(found);
  if (f.folders.size() > kMaxFolders) f.folders.pop_back();
}

void BackgroundFill::missed(const std::shared_ptr<Dataset>& dataset, const CatalogVersion& version, uint32_t entry) {
  if (dataset->fill == larder::Fill::kOff) return;
  MutexLock lock(mutex_);
  Fill& f = fills_[dataset->id()];
  if (!f.dataset) f.dataset = dataset;
  follow_version(f, version);
  f.started = true;
  if (f.paused) return;
  push_folder(f, version.catalog().entries[entry].parent);
  bool was_done = f.cursor >= version.catalog().entry_count;
  if (was_done && Clock::now() >= f.resume_at) {  // evicted since: look for more that went
    f.cursor = 0;
    f.resume_at = Clock::now() + std::chrono::seconds(1);
  }
}

void BackgroundFill::resume(const std::shared_ptr<Dataset>& dataset) {
  std::shared_ptr<CatalogVersion> v = dataset->version();
  if (dataset->fill != larder::Fill::kEager || !v) return;
  MutexLock lock(mutex_);
  Fill& f = fills_[dataset->id()];
  if (!f.dataset) f.dataset = dataset;
  follow_version(f, *v);
  f.started = true;
}

void BackgroundFill::stop(const Dataset& dataset) {
  MutexLock lock(mutex_);
  fills_.erase(dataset.id());
}

void BackgroundFill::tick() {
  MutexLock lock(mutex_);
  for (auto& [id, f] : fills_) {
    if (!f.paused || Clock::now() < f.resume_at) continue;
    // At least a thousandth of the cache: not a pass over everything for each small file that goes.
    if (f.refused_size != 0 &&
        !cache_.has_room(*f.dataset, std::max(f.refused_size, cache_.limit_of(*f.dataset) / 1000)))
      continue;
    f.paused = false;
    f.refused_size = 0;
    f.refused = f.failed = 0;
    f.cursor = 0;
  }
}

std::string BackgroundFill::state(const Dataset& dataset) const {
  if (dataset.fill == larder::Fill::kOff) return "off";
  MutexLock lock(mutex_);
  auto it = fills_.find(dataset.id());
  if (it == fills_.end() || !it->second.started) return "off";
  const Fill& f = it->second;
  if (f.paused) return "paused";
  std::shared_ptr<CatalogVersion> v = dataset.version();
  bool all = dataset.fill == larder::Fill::kSiblings || (v && f.cursor >= v->catalog().entry_count);
  return f.folders.empty() && all && f.in_flight == 0 ? "done" : "running";
}

static bool wanted(const CatalogVersion& v, uint32_t entry) {
  return v.catalog().entries[entry].is_file() && v.state(entry) != kResident;
}

std::optional<uint32_t> BackgroundFill::next_sibling(Fill& f, const CatalogVersion& v) {
  while (!f.folders.empty()) {
    Folder& folder = f.folders.front();
    const CatalogEntry& e = v.catalog().entries[folder.entry];
    while (folder.next_child < e.dir.child_count) {
      uint32_t entry = e.dir.first_child + folder.next_child++;
      if (wanted(v, entry)) return entry;
    }
    f.folders.pop_front();
  }
  return std::nullopt;
}

std::optional<uint32_t> BackgroundFill::next_listed(Fill& f, const CatalogVersion& v) {
  uint32_t end = std::min(v.catalog().entry_count, f.cursor + kMaxScan);
  while (f.cursor < end) {
    uint32_t entry = f.cursor++;
    if (wanted(v, entry)) return entry;
  }
  return std::nullopt;
}

std::optional<Object> BackgroundFill::next_of(Fill& f) {
  std::shared_ptr<CatalogVersion> v = f.dataset->version();
  if (!v) return std::nullopt;
  follow_version(f, *v);
  if (!f.started || f.paused) return std::nullopt;
  std::optional<uint32_t> entry = next_sibling(f, *v);
  if (!entry && f.dataset->fill == larder::Fill::kEager) entry = next_listed(f, *v);
  if (!entry && f.refused_size != 0 && f.cursor >= v->catalog().entry_count) {
    f.paused = true;  // all was tried, some did not fit
    f.resume_at = Clock::now() + std::chrono::seconds(1);
  }
  if (!entry) return std::nullopt;
  ++f.in_flight;
  return object_at(f.dataset, *v, *entry);
}

// The datasets in turn.
std::optional<Object> BackgroundFill::next(const MayFetch& may_fetch) {
  MutexLock lock(mutex_);
  auto at = fills_.upper_bound(last_served_);
  for (size_t n = 0; n < fills_.size(); ++n, ++at) {
    if (at == fills_.end()) at = fills_.begin();
    if (!may_fetch(*at->second.dataset)) continue;
    last_served_ = at->first;
    if (std::optional<Object> object = next_of(at->second)) return object;
  }
  return std::nullopt;
}

void BackgroundFill::finished(const Object& object, const Status& status) {
  MutexLock lock(mutex_);
  auto it = fills_.find(object.dataset->id());
  if (it == fills_.end()) return;
  Fill& f = it->second;
  f.in_flight = std::max(0, f.in_flight - 1);  // 0: it was stopped and began again
  if (status) {
    f.refused = f.failed = 0;
    return;
  }
  int code = status.error().code;
  if (code == ESTALE || code == ENOENT || code == ECANCELED) return;  // a refresh is under way, or the end
  bool full = code == ENOSPC || code == EFBIG;
  if (code == ENOSPC)
    f.refused_size = f.refused_size == 0 ? object.size + 1 : std::min(f.refused_size, object.size + 1);
  if (full ? ++f.refused < kMaxRefused : ++f.failed < kMaxFailed) return;
  f.paused = true;
  f.resume_at = Clock::now() + (full ? std::chrono::seconds(1) : kRest);
}

}  // namespace larder
