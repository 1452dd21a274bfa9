#include "cached/catalog/in_use.h"

#include "cached/base/fd.h"
#include "cached/catalog/cache_dir.h"
#include "cached/catalog/dataset.h"
#include "cached/catalog/oid_name.h"

namespace larder {

void InUse::opened(ObjectId oid) {
  if (files_.size() < kMost) files_.insert(oid);
}

uint64_t InUse::count(const Dataset& dataset) {
  std::erase_if(files_, [&dataset](const ObjectId& oid) {
    Fd fd = dataset.open_file(oid_name(oid).c_str());
    return !fd.valid() || nobody_else_has(fd.get());
  });
  return files_.size();
}

}  // namespace larder
