#include "cached/cache/recount.h"

#include <sys/stat.h>

#include "cached/base/files.h"
#include "cached/base/log.h"
#include "cached/catalog/oid_name.h"

namespace larder {

static Budget::Found count_files(const DatasetRecord& r, const Staging& staging) {
  Budget::Found found{r.accounts, 0, 0, staging.bytes_of(r)};
  for (const int folder : r.dataset->file_folders())
    (void)for_each_name(folder, [&](const char* name) {
      struct stat st;
      ObjectId oid;
      if (!parse_oid(name, &oid)) return;
      if (::fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode)) return;
      found.cached += on_disk(static_cast<uint64_t>(st.st_size));
      found.files += 1;
    });
  return found;
}

void recount_if_distrusted(Budget& budget, const KnownDatasets& known, const Staging& staging,
                           const ResidentFiles& files, ChunkHolder* chunks) {
  const char* why = budget.distrusted();
  if (!why) return;
  const uint64_t used = budget.used(), count = budget.total().files.value();
  std::vector<Budget::Found> found;
  std::vector<std::shared_ptr<Accounts>> accounts;
  for (auto& r : known.all()) {
    found.push_back(count_files(*r, staging));
    accounts.push_back(r->accounts);
  }
  budget.replace(found, files.zombie_bytes());
  if (chunks) chunks->recount(accounts);
  spdlog::error("the cache's accounts went wrong ({}) and were counted anew: {} bytes used, were {}; {} files, were {}",
                why, budget.used(), used, budget.total().files.value(), count);
}

}  // namespace larder
