// What lies in the cache by chunks, as the cache's own classes see it; ChunkStore is the one that does it. It keeps the
// budget's accounts of chunks.
//
// All calls but scrub() come with ObjectCache's lock held, and none of those may call ObjectCache. Byte counts are
// bytes on disk that came free.
#pragma once
#include <cstdint>
#include <memory>

#include "cached/cache/budget.h"
#include "cached/catalog/dataset.h"
#include "cached/catalog/pins.h"

namespace larder {

class LazyFile;

class ChunkHolder {
 public:
  virtual ~ChunkHolder() = default;
  // Takes over what a former daemon left of a dataset.
  virtual void take_over(const std::shared_ptr<Dataset>& dataset, const std::shared_ptr<Accounts>& accounts) = 0;
  // The dataset's version is known: entries of lazy objects become LAZY, objects that no entry names go.
  virtual void adopt(Dataset& dataset, CatalogVersion& version) = 0;
  // The object is of no version any more.
  virtual void drop(const Dataset& dataset, ObjectId oid) = 0;
  // The dataset is no longer known; its files stay.
  virtual void forget(const Dataset& dataset) = 0;
  // What is pinned has changed (null: nothing is, the dataset is not mounted any more).
  virtual void follow_pins(const Dataset& dataset, const CatalogVersion* version, const Pins& pins) = 0;
  // A chunk that is written becomes visible. False: it is not wanted any more, or is there already.
  virtual bool land(const std::shared_ptr<LazyFile>& file, uint32_t chunk, uint64_t sum, bool staged) = 0;
  // The oldest staged chunk, of one dataset or of all (null); 0: there is none.
  virtual uint64_t evict_staged(const Dataset* of) = 0;
  // Kept chunks in a row of a dataset (null: of any, least recently used first), until `enough` bytes came free or the
  // row ends. 0: there are none.
  virtual uint64_t evict_kept(const Dataset* of, uint64_t enough) = 0;
  // All chunks of one object that is not whole.
  virtual uint64_t evict_object(const Dataset& dataset, ObjectId oid) = 0;
  // Counts the chunks that are there anew, of these datasets (which are all that are known).
  virtual void recount(const std::vector<std::shared_ptr<Accounts>>& datasets) = 0;
  // Compares the chunks of an object that are there with their checksums; those that differ go. Without ObjectCache's
  // lock.
  struct Scrubbed {
    uint64_t bytes = 0;  // that were compared
    uint32_t bad = 0;
  };
  virtual Scrubbed scrub(const Dataset& dataset, ObjectId oid) = 0;
  virtual uint64_t staging_share() const = 0;
  // Of one dataset.
  struct Usage {
    uint64_t bytes = 0, files = 0;
    double shares = 0;  // the files, each as the share of its chunks that is there
  };
  virtual Usage usage_of(const Dataset& dataset) const = 0;
};

}  // namespace larder
