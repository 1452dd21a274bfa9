// Compares cache files with their checksums: in the background after a take-over, and for `larder check`. A file that
// differs is set ABSENT, dropped and logged.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cached/cache/object_cache.h"

namespace larder {

struct CheckCounts {
  uint64_t files = 0, bytes = 0;
  std::vector<std::pair<std::shared_ptr<Dataset>, std::string>> corrupt;  // dataset, path
};

// Verifies the resident files at or below `path` of the dataset's current version. `go_on` is asked before each file
// and told how far it is. ESTALE: the dataset was refreshed meanwhile.
Status verify(ObjectCache& cache, const std::shared_ptr<Dataset>& dataset, const std::string& path, CheckCounts& counts,
              const std::function<bool(const CheckCounts&)>& go_on);

}  // namespace larder
