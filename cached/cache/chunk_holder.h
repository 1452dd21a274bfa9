// What lies in the cache by chunks, as ObjectCache sees it. All calls but scrub() come with ObjectCache's lock held;
// none of those may call it back. Byte counts are bytes on disk that came free; the holder takes them off
// Dataset::chunk_bytes by itself.
#pragma once
#include <cstdint>
#include <memory>

#include "cached/catalog/dataset.h"

namespace larder {

class ChunkHolder {
 public:
  virtual ~ChunkHolder() = default;
  // Takes over what a former daemon left of a dataset: bytes that are there.
  virtual uint64_t take_over(const std::shared_ptr<Dataset>& dataset) = 0;
  // The dataset's version is known: entries of lazy objects become LAZY, what no entry names goes.
  virtual uint64_t adopt(Dataset& dataset, CatalogVersion& version) = 0;
  // An object is of no version any more.
  virtual uint64_t drop(const Dataset& dataset, ObjectId oid) = 0;
  // All of a dataset, which is no longer known; its files stay.
  virtual uint64_t forget(const Dataset& dataset) = 0;
  // What is pinned has changed (null: nothing is, the dataset is not mounted any more).
  virtual void follow_pins(Dataset& dataset, const CatalogVersion* version) = 0;
  // The oldest staged chunk, of one dataset or of all; 0: there is none.
  virtual uint64_t evict_staged(const Dataset* of) = 0;
  // Kept chunks in a row of a dataset (null: of any, least recently used first), until `enough` bytes came free or the
  // row ends. 0: there are none.
  virtual uint64_t evict_kept(const Dataset* of, uint64_t enough) = 0;
  // All chunks of one object that is not whole.
  virtual uint64_t evict_object(const Dataset& dataset, ObjectId oid) = 0;
  // Compares the chunks of an object that are there with their checksums; those that differ go. Without ObjectCache's
  // lock.
  struct Scrubbed {
    uint64_t bytes = 0;  // that were compared
    uint32_t bad = 0;
  };
  virtual Scrubbed scrub(const Dataset& dataset, ObjectId oid) = 0;
  virtual uint64_t staged_bytes(const Dataset* of) const = 0;
  virtual uint64_t staging_share() const = 0;
  // Of one dataset.
  struct Usage {
    uint64_t bytes = 0, files = 0;
    double shares = 0;  // the files, each as the share of its chunks that is there
  };
  virtual Usage usage_of(const Dataset& dataset) const = 0;
};

}  // namespace larder
