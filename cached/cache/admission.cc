#include "cached/cache/admission.h"

#include <fmt/format.h>

namespace larder {

Error Admission::too_large(const Dataset& d, uint64_t need) const {
  const uint64_t limit = budget_.limit_of(d);
  const bool quota = limit < budget_.limits().cache_size;
  return make_error(EFBIG,
                    fmt::format("it takes {} bytes and {} has {}; give a larger {}", need,
                                quota ? "the dataset's quota" : "the cache", limit, quota ? "quota" : "cache_size"));
}

bool Admission::make_room(DatasetRecord& r, uint64_t need, bool stays, bool chunk) {
  if (stays) return eviction_.make_room(r, need);
  return chunk ? eviction_.make_chunk_room(r, need) : eviction_.make_staging_room(r, need);
}

Result<Admission::Kind> Admission::find_room(DatasetRecord& r, const std::string& path, uint64_t need, bool demand,
                                             bool chunk) {
  const Dataset& d = *r.dataset;
  if (!budget_.can_ever_fit(d, need)) return too_large(d, need);
  if (budget_.within_quota(d, *r.accounts, need) && (budget_.fits(need) || eviction_.free_leftovers(r, need)))
    return Kind::kKept;
  const bool pinned = r.is_pinned(path);
  if (!demand && !pinned) return make_error(ENOSPC, fmt::format("the cache is full ({} bytes)", budget_.limit_of(d)));
  const bool stays = pinned || (!chunk && d.policy == Policy::kSieve);
  if (make_room(r, need, stays, chunk)) return stays ? Kind::kKept : Kind::kStaged;
  return make_error(
      demand ? EAGAIN : ENOSPC,
      fmt::format("no room for {} bytes: {} are the limit, and everything in the cache is in use or pinned", need,
                  budget_.limit_of(d)));
}

}  // namespace larder
