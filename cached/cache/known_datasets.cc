#include "cached/cache/known_datasets.h"

#include <sys/stat.h>

#include <algorithm>

namespace larder {

Sieve* DatasetRecord::sieve_of(const CatalogVersion& v) {
  if (dataset->policy != Policy::kSieve) {
    sieve.reset();
    return nullptr;
  }
  if (sieve) return &*sieve;
  sieve.emplace(v.catalog().entry_count);
  for (uint32_t i = 0; accounts->files.value() > 0 && i < v.catalog().entry_count; ++i)
    if (v.state(i) == kResident) sieve->add(i);
  return &*sieve;
}

bool DatasetRecord::take_touches() {
  std::shared_ptr<CatalogVersion> v = dataset->version();
  if (!v) return false;
  const bool any = v->take_touches([&](uint32_t entry) {
    if (sieve) sieve->visit(entry);
    if (v->state(entry) == kResident) in_use.opened(v->catalog().entries[entry].oid);
  });
  if (!any) return false;
  dataset->used_now();
  ::futimens(dataset->folder_fd(), nullptr);  // so that a restart knows the order
  return true;
}

bool DatasetRecord::is_pinned(const std::string& path) const {
  if (pins->files() == 0) return false;
  std::shared_ptr<CatalogVersion> v = dataset->version();
  return v && pins->contains(v->find_file(path));
}

DatasetRecord& KnownDatasets::add(std::shared_ptr<Dataset> dataset, std::unique_ptr<Pins> pins) {
  all_.push_back(std::unique_ptr<DatasetRecord>(
      new DatasetRecord{.dataset = std::move(dataset), .pins = std::move(pins), .sieve = std::nullopt}));
  return *all_.back();
}

void KnownDatasets::remove(const DatasetRecord& record) {
  std::erase_if(all_, [&](auto& r) { return r.get() == &record; });
}

DatasetRecord* KnownDatasets::find(const Dataset& dataset) const {
  auto it = std::find_if(all_.begin(), all_.end(), [&](auto& r) { return r->dataset.get() == &dataset; });
  return it == all_.end() ? nullptr : it->get();
}

}  // namespace larder
