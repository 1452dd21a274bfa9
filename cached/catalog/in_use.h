// Which whole files of one dataset programs have open or mapped: those that were opened since the last look, and those
// that were in use then. So a look costs two system calls for each of these, not for each file of the cache. Not
// thread-safe.
#pragma once
#include <cstdint>
#include <unordered_set>

#include "larder/hash.h"

namespace larder {

class Dataset;

struct OidHash {
  size_t operator()(const ObjectId& id) const { return id.lo; }
};

class InUse {
 public:
  // More are not remembered: 8192 looks take about 30 ms, and a node has fewer files open but for odd cases.
  static constexpr size_t kMost = 8192;

  // A program opened it. Beyond kMost it is forgotten.
  void opened(ObjectId oid);
  // Asks the kernel about each and forgets those that nobody has.
  uint64_t count(const Dataset& dataset);

 private:
  std::unordered_set<ObjectId, OidHash> files_;
};

}  // namespace larder
