// What the cache knows of each dataset, beside what the catalog does. Not thread-safe: guarded by ObjectCache's lock.
#pragma once
#include <memory>
#include <optional>
#include <vector>

#include "cached/cache/budget.h"
#include "cached/catalog/dataset.h"
#include "cached/catalog/in_use.h"
#include "cached/catalog/pins.h"
#include "cached/catalog/sieve.h"

namespace larder {

struct DatasetRecord {
  // The dataset's queue, if sieve is its policy; null otherwise. It begins with what is resident, in the catalog's
  // order.
  Sieve* sieve_of(const CatalogVersion& version);
  // Reads the touch bytes of the current version. True: a program opened something since the last time.
  bool take_touches();
  bool is_pinned(const std::string& path) const;

  const std::shared_ptr<Dataset> dataset;
  const std::shared_ptr<Accounts> accounts = std::make_shared<Accounts>();
  const std::unique_ptr<Pins> pins;
  std::optional<Sieve> sieve;  // of the current version's resident files
  uint32_t evict_cursor = 0;   // entries from here on were looked at for something to evict
  InUse in_use{};
  Charge tables{};  // of an unmounted dataset's catalog and residency on disk
};

class KnownDatasets {
 public:
  DatasetRecord& add(std::shared_ptr<Dataset> dataset, std::unique_ptr<Pins> pins);
  void remove(const DatasetRecord& record);
  // Null: it is not known.
  DatasetRecord* find(const Dataset& dataset) const;
  // In the order in which they were added.
  const std::vector<std::unique_ptr<DatasetRecord>>& all() const { return all_; }

 private:
  std::vector<std::unique_ptr<DatasetRecord>> all_;
};

}  // namespace larder
