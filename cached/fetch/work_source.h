// Where background work comes from: the fill of a dataset, `larder warm`.
#pragma once
#include <functional>
#include <optional>

#include "cached/catalog/dataset.h"

namespace larder {

// ObjectFetcher calls both functions, on any of its threads. next() runs under its lock: it must be quick and must not
// call ObjectFetcher. finished() runs without locks held.
class WorkSource {
 public:
  virtual ~WorkSource() = default;
  // Has this dataset connections left?
  using MayFetch = std::function<bool(const Dataset&)>;
  // The next object that is not in the cache and may be fetched, or nothing for now (ObjectFetcher::kick() when that
  // changes).
  virtual std::optional<Object> next(const MayFetch& may_fetch) = 0;
  // An object that next() gave has come in, or has not. ENOSPC: the cache is full.
  virtual void finished(const Object& object, const Status& status) = 0;
};

}  // namespace larder
