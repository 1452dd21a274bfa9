#include "cached/fetch/missing_objects.h"

#include <algorithm>

namespace larder {

bool is_listed(const Object& object) {
  std::shared_ptr<CatalogVersion> v = object.dataset->version();
  const uint32_t entry = v ? v->find_file(object.path) : kNoEntry;
  return entry != kNoEntry && v->catalog().entries[entry].oid == object.oid;
}

bool MissingObjects::is_listing_due(const Dataset& dataset, Clock::time_point now) {
  std::shared_ptr<CatalogVersion> v = dataset.version();
  if (!v) return true;
  MutexLock lock(mutex_);
  Asked& asked = asked_[dataset.id()];
  if (asked.version != v->version()) asked = {.version = v->version()};
  if (now < asked.next) return false;
  asked.next = now + asked.pause;
  asked.pause = std::min(2 * asked.pause, kLongest);
  return true;
}

}  // namespace larder
