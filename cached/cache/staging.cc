#include "cached/cache/staging.h"

namespace larder {

void Staging::add(File file, uint64_t bytes) {
  sizes_[file.oid] = bytes;
  budget_.file_staged(*file.record->accounts, bytes);
  queue_.push_back(std::move(file));
}

void Staging::forget(const DatasetRecord& record, ObjectId oid) {
  auto it = sizes_.find(oid);
  if (it == sizes_.end()) return;
  budget_.file_unstaged(*record.accounts, it->second);
  sizes_.erase(it);
}

void Staging::forget_if(const DatasetRecord& record, const std::function<bool(const File&)>& which) {
  std::erase_if(queue_, [&](const File& f) {
    if (f.record != &record || !which(f)) return false;
    forget(record, f.oid);
    return true;
  });
}

uint64_t Staging::bytes_of(const DatasetRecord& record) const {
  uint64_t bytes = 0;
  for (const File& f : queue_)
    if (auto it = sizes_.find(f.oid); f.record == &record && it != sizes_.end()) bytes += it->second;
  return bytes;
}

bool Staging::evict_oldest(const DatasetRecord* of, int most_busy, const std::function<Try(const File&)>& remove) {
  int busy = 0;
  size_t at = 0;
  for (size_t n = queue_.size(); n > 0 && busy < most_busy; --n) {
    if (of && queue_[at].record != of) {
      ++at;
      continue;
    }
    File f = std::move(queue_[at]);
    queue_.erase(queue_.begin() + static_cast<ptrdiff_t>(at));
    if (!contains(f.oid)) continue;  // went another way
    const Try tried = remove(f);
    if (tried == Try::kFreed) return true;
    if (tried != Try::kBusy) continue;
    ++busy;
    queue_.push_back(std::move(f));
  }
  return false;
}

}  // namespace larder
