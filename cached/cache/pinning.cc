#include "cached/cache/pinning.h"

#include <fmt/format.h>

#include <algorithm>

#include "cached/base/log.h"

namespace larder {

// What pins must leave: the staging shares, and room for files that are neither (a sixteenth).
uint64_t Pinning::beside_pins(uint64_t limit) const {
  return std::max({budget_.limits().staging, chunks_ ? chunks_->staging_share() : 0, limit / 16});
}

// The most that may be pinned of a dataset.
uint64_t Pinning::room_for_pins(const DatasetRecord& r) const {
  const uint64_t size = budget_.limits().cache_size;
  uint64_t taken = budget_.tables() + Budget::kTableSlack + beside_pins(size);
  for (auto& other : known_.all())
    if (other.get() != &r) taken += other->pins->bytes();
  const uint64_t room = taken < size ? size - taken : 0;
  if (r.dataset->quota == 0) return room;
  const uint64_t limit = budget_.limit_of(*r.dataset);
  return std::min(room, limit - limit / 16);
}

void Pinning::follow(DatasetRecord& r) {
  std::shared_ptr<CatalogVersion> v = r.dataset->version();
  if (uint64_t left_out = r.pins->follow(v.get(), room_for_pins(r)); left_out > 0)
    spdlog::error("{}: {} files below pinned paths do not fit and are not pinned; give a larger cache_size or quota",
                  r.dataset->label(), left_out);
  if (v)  // what passed through and is pinned now stays
    staging_.forget_if(r, [&](const Staging::File& f) { return r.pins->contains(v->find_file(f.path)); });
  if (chunks_) chunks_->follow_pins(*r.dataset, v.get(), *r.pins);
}

Status Pinning::pin(DatasetRecord& r, const std::vector<std::string>& paths) {
  std::shared_ptr<CatalogVersion> v = r.dataset->version();
  if (!v) return make_error(ESTALE, "the dataset is not mounted any more");
  const uint64_t bytes = r.pins->bytes() + r.pins->measure(*v, paths), most = room_for_pins(r);
  if (bytes > most)
    return make_error(
        ENOSPC,
        fmt::format("{} bytes of {} would be pinned, and {} can be; pin less, or give a larger cache_size or quota",
                    bytes, r.dataset->label(), most));
  if (Status s = r.pins->add(paths); !s) return s;
  follow(r);
  return {};
}

Result<size_t> Pinning::unpin(DatasetRecord& r, const std::string& path) {
  Result<size_t> gone = r.pins->remove(path);
  if (gone && *gone > 0) follow(r);
  return gone;
}

}  // namespace larder
