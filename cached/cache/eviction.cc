#include "cached/cache/eviction.h"

#include <algorithm>

#include "cached/base/files.h"
#include "cached/base/log.h"
#include "cached/catalog/oid_name.h"
#include "larder/names.h"

namespace larder {

// How many files in use are tried before a search for something to evict ends: each try costs two system calls.
static constexpr int kMaxBusy = 256;
// A dataset that no program used for so long is a leftover.
static constexpr int64_t kIdleAfterNs = 600 * 1000000000LL;

using Removed = ResidentFiles::Removed;

// ---- leftovers

// Files of a leftover dataset until `need` fits. Without a version (unmounted) its folder tells what there is.
void Eviction::free_leftovers_of(DatasetRecord& r, uint64_t need) {
  while (!budget_.fits(need) && evict_kept_chunks(need, &r)) {
  }
  if (r.dataset->version()) {
    while (!budget_.fits(need) && evict_kept(r)) {
    }
    return;
  }
  int busy = 0;
  for (const int folder : r.dataset->file_folders())
    (void)for_names_while(folder, [&](const char* name) {
      ObjectId oid;
      if (parse_oid(name, &oid)) busy += files_.remove_file(r, name, false, [] {}) == Removed::kBusy;
      return busy < kMaxBusy && !budget_.fits(need);
    });
  if (r.accounts->files.value() == 0) remove_empty_leftover(r);
}

void Eviction::remove_empty_leftover(DatasetRecord& r) {
  const int folder = r.dataset->folder_fd();
  (void)for_each_name(folder, [&](const char* name) {
    if (is_version_file(name)) ::unlinkat(folder, name, 0);
  });
  (void)r.dataset->sums->compact({});
  r.tables = Charge();
}

static std::vector<DatasetRecord*> least_used_first(const KnownDatasets& known,
                                                    const std::function<bool(const DatasetRecord&)>& which) {
  std::vector<DatasetRecord*> some;
  for (auto& r : known.all())
    if (which(*r)) some.push_back(r.get());
  std::sort(some.begin(), some.end(), [](DatasetRecord* a, DatasetRecord* b) {
    return a->dataset->last_use_ns.load() < b->dataset->last_use_ns.load();
  });
  return some;
}

bool Eviction::free_leftovers(const DatasetRecord& for_whom, uint64_t need) {
  const int64_t now = wall_ns();
  for (DatasetRecord* r : least_used_first(known_, [&](const DatasetRecord& each) {
         const bool leftover = !each.dataset->version() || now - each.dataset->last_use_ns.load() > kIdleAfterNs;
         const bool has_some = each.accounts->files.value() > 0 || each.accounts->chunks.value() > 0;
         return &each != &for_whom && has_some && leftover;
       })) {
    free_leftovers_of(*r, need);
    if (budget_.fits(need)) return true;
  }
  return budget_.fits(need);
}

// ---- one file or chunk

Staging::Try Eviction::try_staged(const Staging::File& f) {
  std::shared_ptr<CatalogVersion> v = f.record->dataset->version();
  const uint32_t entry = v ? v->find_file(f.path) : kNoEntry;
  const bool current = entry != kNoEntry && v->catalog().entries[entry].oid == f.oid;
  Removed removed = current ? files_.remove_entry(*f.record, *v, entry, false)
                            : files_.remove_file(*f.record, oid_name(f.oid).c_str(), false, [] {});
  if (removed == Removed::kBusy) return Staging::Try::kBusy;
  if (staging_.contains(f.oid)) {  // somebody else removed it
    staging_.forget(*f.record, f.oid);
    budget_.distrust("a staged file that is gone");
  }
  return removed == Removed::kFreed ? Staging::Try::kFreed : Staging::Try::kGone;
}

// Of one dataset, or of all.
bool Eviction::evict_oldest_staged(const DatasetRecord* of) {
  return staging_.evict_oldest(of, kMaxBusy, [this](const Staging::File& f) { return try_staged(f); });
}

// One resident file that is neither staged nor pinned nor in use: by the dataset's policy, or from the end of the
// catalog backwards, going on where it stopped.
bool Eviction::evict_kept(DatasetRecord& r) {
  std::shared_ptr<CatalogVersion> v = r.dataset->version();
  if (!v || r.accounts->files.value() == 0) return false;
  if (Sieve* sieve = r.sieve_of(*v)) return evict_sieved(r, *v, *sieve);
  const uint32_t count = v->catalog().entry_count;
  int busy = 0;
  for (uint32_t n = 0; n < count && busy < kMaxBusy; ++n) {
    if (r.evict_cursor == 0 || r.evict_cursor > count) r.evict_cursor = count;
    const uint32_t entry = --r.evict_cursor;
    if (v->state(entry) != kResident || r.pins->contains(entry)) continue;
    if (staging_.contains(v->catalog().entries[entry].oid)) continue;
    Removed removed = files_.remove_entry(r, *v, entry, false);
    if (removed == Removed::kFreed) return true;
    busy += removed == Removed::kBusy;
  }
  return false;
}

bool Eviction::evict_sieved(DatasetRecord& r, CatalogVersion& v, Sieve& sieve) {
  r.take_touches();
  int busy = 0;
  for (uint32_t n = sieve.size(); n > 0 && busy < kMaxBusy; --n) {
    const uint32_t entry = sieve.next();
    if (entry == Sieve::kNone) return false;
    if (r.pins->contains(entry)) continue;
    Removed removed = files_.remove_entry(r, v, entry, false);
    if (removed == Removed::kFreed) return true;
    busy += removed == Removed::kBusy;
  }
  return false;
}

bool Eviction::evict_any_kept(DatasetRecord& first) {
  if (evict_kept(first)) return true;
  std::vector<DatasetRecord*> others =
      least_used_first(known_, [&](const DatasetRecord& r) { return &r != &first && r.dataset->version() != nullptr; });
  return std::any_of(others.begin(), others.end(), [this](DatasetRecord* r) { return evict_kept(*r); });
}

bool Eviction::evict_kept_of_all() {
  return std::any_of(known_.all().begin(), known_.all().end(), [this](auto& r) { return evict_kept(*r); });
}

bool Eviction::evict_staged_chunk(const DatasetRecord* of) {
  return chunks_ && chunks_->evict_staged(of ? of->dataset.get() : nullptr) > 0;
}

bool Eviction::evict_kept_chunks(uint64_t enough, const DatasetRecord* of) {
  return chunks_ && chunks_->evict_kept(of ? of->dataset.get() : nullptr, enough) > 0;
}

bool Eviction::evict_own(DatasetRecord& r, uint64_t need) {
  return evict_oldest_staged(&r) || evict_kept(r) || evict_kept_chunks(need, &r) || evict_staged_chunk(&r);
}

// ---- as much as is needed

bool Eviction::make_room(DatasetRecord& r, uint64_t need) {
  while (!fits(r, need)) {
    const bool freed = within_quota(r, need) ? evict_oldest_staged() || evict_any_kept(r) || evict_kept_chunks(need) ||
                                                   evict_staged_chunk()
                                             : evict_own(r, need);
    if (!freed) return false;
  }
  return true;
}

bool Eviction::make_staging_room(DatasetRecord& r, uint64_t need) {
  while (!fits(r, need)) {
    const DatasetRecord* of = within_quota(r, need) ? nullptr : &r;
    const Accounts& accounts = of ? *of->accounts : budget_.total();
    const uint64_t share = budget_.share_of(of ? of->dataset.get() : nullptr, budget_.limits().staging);
    const bool share_is_full = accounts.staged.value() + need > share;
    if (share_is_full && evict_oldest_staged(of)) continue;
    if ((of ? evict_kept(r) : evict_any_kept(r)) || evict_kept_chunks(need, of)) continue;
    if (!share_is_full && evict_oldest_staged(of)) continue;
    if (evict_staged_chunk(of)) continue;
    return false;
  }
  return true;
}

bool Eviction::make_chunk_room(DatasetRecord& r, uint64_t need) {
  while (!fits(r, need)) {
    const DatasetRecord* of = within_quota(r, need) ? nullptr : &r;
    const uint64_t staged = (of ? *of->accounts : budget_.total()).staged_chunks.value();
    const uint64_t share = budget_.share_of(of ? of->dataset.get() : nullptr, chunks_->staging_share());
    const bool share_is_full = staged + need > share;
    if (share_is_full && evict_staged_chunk(of)) continue;
    if (share_is_full && staged > 0) return false;  // all of them came a moment ago
    if (evict_kept_chunks(need, &r) || (of ? evict_kept(r) : evict_any_kept(r)) || evict_kept_chunks(need, of))
      continue;
    if (evict_oldest_staged(of) || evict_staged_chunk(of)) continue;
    return false;
  }
  return true;
}

bool Eviction::free_something(uint64_t need) {
  if (evict_oldest_staged() || evict_staged_chunk()) return true;
  const uint64_t before = budget_.total().held();
  for (auto& r : known_.all())
    if (!r->dataset->version() && r->accounts->held() > 0) free_leftovers_of(*r, need);
  if (budget_.total().held() < before) return true;
  return evict_kept_chunks(need) || evict_kept_of_all();
}

bool Eviction::free_anything(uint64_t need) {
  while (!budget_.fits(need))
    if (!free_something(need)) return false;
  return true;
}

bool Eviction::evict_a_file() {
  return evict_oldest_staged() || evict_kept_of_all();
}

bool Eviction::make_space(uint64_t bytes) {
  const Accounts& total = budget_.total();
  auto all = [&] { return total.cached.value() + total.chunks.value(); };
  const uint64_t before = all(), want = on_disk(bytes);
  while (before - all() < want) {
    if (evict_oldest_staged() || evict_staged_chunk() || evict_kept_chunks(want - (before - all()))) continue;
    if (!evict_kept_of_all()) break;
  }
  return all() < before;
}

}  // namespace larder
