// One published version of a dataset as the daemon holds it: catalog (read), residency (written), touch (shared with
// programs). Owned by shared_ptr: flights and programs' greetings may hold an old one for a while.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "cached/base/charge.h"
#include "cached/base/fd.h"
#include "cached/catalog/catalog_builder.h"
#include "larder/catalog.h"
#include "larder/shm.h"

namespace larder {

class CatalogVersion {
 public:
  // Writes catalog and residency (all ABSENT) into the folder and opens them. A residency of this version that is there
  // and fits stays, because programs have it mapped.
  static Result<std::shared_ptr<CatalogVersion>> create(int folder, int tmp, CatalogImage&& image, Meter& meter);
  // Opens what is there; EBADMSG or ENOENT if the catalog is not good.
  static Result<std::shared_ptr<CatalogVersion>> open(int folder, int tmp, uint64_t dataset_id, uint64_t version,
                                                      Meter& meter);

  const Catalog& catalog() const { return catalog_; }
  uint64_t version() const { return catalog_.header->version; }
  uint32_t find(std::string_view path) const { return catalog_.find(path.data(), path.size()); }
  uint32_t find_file(std::string_view path) const;  // kNoEntry if it is no file
  std::string path_of(uint32_t entry) const;
  std::string_view etag_of(uint32_t entry) const;
  const Fd& touch() const { return touch_; }

  uint32_t state(uint32_t entry) const {
    return residency()->words[entry].load(std::memory_order_acquire) & kStateMask;
  }
  void set_state(uint32_t entry, uint32_t state);

  // True if any program set a touch byte since the last call; clears them and calls `each` with the entries.
  bool take_touches(const std::function<void(uint32_t entry)>& each);

 private:
  Residency* residency() const { return static_cast<Residency*>(residency_map_.data()); }
  Status map_catalog(int folder, uint64_t dataset_id, uint64_t version);
  Status open_residency(int folder, int tmp);
  Status make_touch();

  Mapping catalog_map_, residency_map_, touch_map_;
  Catalog catalog_;
  Fd touch_;
  Charge charge_;
};

// Bytes that a version with this catalog takes of the budget.
uint64_t version_bytes(const Catalog& catalog);

// A sealed memfd that cannot be shrunk or grown by whoever gets it.
Result<Fd> sealed_memory(const char* name, size_t bytes);

}  // namespace larder
