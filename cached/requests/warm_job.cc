#include "cached/requests/warm_job.h"

#include <algorithm>

namespace larder {

static constexpr size_t kMaxErrors = 20;

void WarmJob::add(std::shared_ptr<Dataset> dataset, std::shared_ptr<CatalogVersion> version, uint32_t entry,
                  std::string mount_path) {
  MutexLock lock(mutex_);
  const CatalogEntry* entries = version->catalog().entries;
  uint32_t target = static_cast<uint32_t>(targets_.size());
  std::vector<uint32_t> todo{entry};
  while (!todo.empty()) {
    uint32_t i = todo.back();
    todo.pop_back();
    if (entries[i].is_file()) {
      items_.push_back({target, i});
      counts_.files += 1;
      counts_.bytes += entries[i].size;
      continue;
    }
    for (uint32_t k = entries[i].dir.child_count; k-- > 0;)
      todo.push_back(entries[i].dir.first_child + k);
  }
  targets_.push_back({std::move(dataset), std::move(version), std::move(mount_path)});
}

std::optional<Object> WarmJob::next(const MayFetch& may_fetch) {
  MutexLock lock(mutex_);
  if (in_flight_ >= jobs_) return std::nullopt;
  while (at_ < items_.size()) {
    const Item& item = items_[at_];
    const Target& t = targets_[item.target];
    const bool resident = t.version->state(item.entry) == kResident;
    if (!resident && !may_fetch(*t.dataset)) return std::nullopt;
    ++at_;
    if (!resident) {
      ++in_flight_;
      return object_at(t.dataset, *t.version, item.entry);
    }
    counts_.already += 1;
    counts_.done += 1;
    counts_.done_bytes += t.version->catalog().entries[item.entry].size;
  }
  if (in_flight_ == 0) changed_.notify_all();
  return std::nullopt;
}

void WarmJob::finished(const Object& object, const Status& status) {
  MutexLock lock(mutex_);
  --in_flight_;
  counts_.done += 1;
  if (status) {
    counts_.fetched += 1;
    counts_.done_bytes += object.size;
  } else {
    counts_.failed += 1;
    auto target =
        std::find_if(targets_.begin(), targets_.end(), [&](const Target& t) { return t.dataset == object.dataset; });
    if (counts_.errors.size() < kMaxErrors)
      counts_.errors.emplace_back(target->mount_path + "/" + object.path, status.error().message);
  }
  if (is_done_locked()) changed_.notify_all();  // not for each: that wakes a thread an object
}

std::pair<WarmCounts, bool> WarmJob::wait(std::chrono::milliseconds time) {
  const auto deadline = std::chrono::steady_clock::now() + time;
  MutexLock lock(mutex_);
  while (!is_done_locked())
    if (!changed_.wait_until(mutex_, deadline)) break;
  return {counts_, is_done_locked()};
}

void WarmJob::cancel() {
  MutexLock lock(mutex_);
  at_ = items_.size();
}

}  // namespace larder
