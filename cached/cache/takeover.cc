// ObjectCache: which versions of which datasets there are, and what a former daemon left.
#include <sys/stat.h>

#include <algorithm>

#include "cached/base/files.h"
#include "cached/base/log.h"
#include "cached/cache/object_cache.h"
#include "cached/catalog/oid_name.h"
#include "larder/chunks.h"
#include "larder/names.h"

namespace larder {

// ---- datasets
// --------------------------------------------------------------------------------------------------------

void ObjectCache::add(std::shared_ptr<Dataset> dataset) {
  std::lock_guard lock(mutex_);
  datasets_.push_back(dataset);
  count_folder(*dataset);
  if (chunks_) chunk_bytes_ += chunks_->take_over(dataset);
}

void ObjectCache::remove(const Dataset& dataset) {
  std::lock_guard lock(mutex_);
  auto it = std::find_if(datasets_.begin(), datasets_.end(), [&](auto& d) { return d.get() == &dataset; });
  if (it == datasets_.end()) return;
  cached_bytes_ -= std::min(cached_bytes_, (*it)->cached_bytes);
  cached_files_ -= std::min(cached_files_, (*it)->cached_files);
  (*it)->tables = Charge();
  if (chunks_) chunk_bytes_ -= std::min(chunk_bytes_, chunks_->forget(dataset));
  datasets_.erase(it);
}

void ObjectCache::count_folder(Dataset& d) {
  uint64_t tables = 0;
  (void)for_each_name(d.folder_fd(), [&](const char* name) {
    struct stat st;
    ObjectId oid;
    if (::fstatat(d.folder_fd(), name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode)) return;
    uint64_t bytes = on_disk(static_cast<uint64_t>(st.st_size));
    if (!parse_oid(name, &oid)) {
      if (std::string_view(name) != kChecksumFile && std::string_view(name) != kPinFile) tables += bytes;
      return;
    }
    d.cached_bytes += bytes;
    d.cached_files += 1;
    cached_bytes_ += bytes;
    cached_files_ += 1;
  });
  d.tables = Charge(meter_, tables);
}

// A file found on disk: the right size, the daemon's own, read-only, and with a checksum to verify it by.
bool ObjectCache::check_file(Dataset& d, const char* name, const CatalogEntry& e, const Sums& sums) {
  struct stat st;
  if (::fstatat(d.folder_fd(), name, &st, AT_SYMLINK_NOFOLLOW) != 0) return false;
  if (!S_ISREG(st.st_mode) || st.st_uid != ::geteuid() || (st.st_mode & 0222) != 0 || st.st_nlink != 1) return false;
  if (static_cast<uint64_t>(st.st_size) != e.size || !sums.find(e.oid)) return false;
  struct timespec t = {e.mtime_ns / 1000000000, e.mtime_ns % 1000000000};
  if (t.tv_nsec < 0) t = {t.tv_sec - 1, t.tv_nsec + 1000000000};
  struct timespec times[2] = {t, t};
  bool same_time = st.st_mtim.tv_sec == t.tv_sec && st.st_mtim.tv_nsec == t.tv_nsec;
  if (!same_time && ::utimensat(d.folder_fd(), name, times, AT_SYMLINK_NOFOLLOW) != 0) return false;
  return inodes_.insert(st.st_ino, file_inode(e.oid), d.id(), InodeKind::kFile).ok();
}

static std::vector<uint32_t> files_by_oid(const Catalog& c) {
  std::vector<uint32_t> files;
  for (uint32_t i = 0; i < c.entry_count; ++i)
    if (c.entries[i].is_file()) files.push_back(i);
  std::sort(files.begin(), files.end(),
            [&](uint32_t a, uint32_t b) { return oid_less(c.entries[a].oid, c.entries[b].oid); });
  return files;
}

// Which entries have a good file. Object files that are nobody's go. `files`: the entries that are files, by object id.
std::vector<bool> ObjectCache::check_folder(Dataset& d, const CatalogVersion& v, const std::vector<uint32_t>& files,
                                            const Sums& sums) {
  const Catalog& c = v.catalog();
  std::vector<bool> present(c.entry_count, false);
  std::vector<std::string> bad, unknown;
  (void)for_each_name(d.folder_fd(), [&](const char* name) {
    ObjectId oid;
    std::string_view n = name;
    if (!parse_oid(n, &oid)) {
      bool known = n == kChecksumFile || n == kPinFile || n == kMirrorFolder || n == kLazyFolder || is_version_file(n);
      if (!known) unknown.emplace_back(n);
      return;
    }
    auto it = std::lower_bound(files.begin(), files.end(), oid,
                               [&](uint32_t a, const ObjectId& id) { return oid_less(c.entries[a].oid, id); });
    bool good = it != files.end() && c.entries[*it].oid == oid && check_file(d, name, c.entries[*it], sums);
    if (good)
      present[*it] = true;
    else
      bad.emplace_back(n);
  });
  for (const std::string& name : bad)
    remove_file(d, name.c_str(), true, [] {});
  if (!bad.empty())
    spdlog::info("{}: {} cache files were incomplete or of an older version, and went", d.label(), bad.size());
  for (const std::string& name : unknown)
    spdlog::warn("{}: {} in its cache folder is not Larder's; left alone", d.label(), shown(name));
  return present;
}

Status ObjectCache::adopt(Dataset& d, std::shared_ptr<CatalogVersion> v) {
  Result<Sums> sums = d.sums->load();
  if (!sums) return sums.error();
  std::vector<uint32_t> files;
  if (usage_of(d).files > 0) files = files_by_oid(v->catalog());  // a fresh node has none: millions need not be sorted
  std::lock_guard lock(mutex_);
  std::vector<bool> present = check_folder(d, *v, files, *sums);
  for (uint32_t i = 0; i < v->catalog().entry_count; ++i) {
    uint32_t should = present[i] ? kResident : kAbsent;
    if (v->state(i) != should) v->set_state(i, should);
  }
  if (chunks_) chunk_bytes_ -= std::min(chunk_bytes_, chunks_->adopt(d, *v));
  d.set_version(std::move(v));
  d.sieve.reset();
  follow_pins(d);
  d.verified = std::find(present.begin(), present.end(), true) == present.end();
  d.tables = Charge();  // the version has its own
  d.evict_cursor = 0;
  return {};
}

std::vector<ObjectCache::Match> ObjectCache::match(const CatalogVersion& from, const CatalogVersion& to) {
  std::vector<Match> matches;
  const Catalog& c = to.catalog();
  char path[4096];
  for (uint32_t i = 0; i < c.entry_count; ++i) {
    long len = c.entries[i].is_file() ? c.path_of(i, path, sizeof path) : -1;
    if (len < 0) continue;
    uint32_t old = from.find_file({path, static_cast<size_t>(len)});
    if (old != kNoEntry && from.catalog().entries[old].oid == c.entries[i].oid) matches.push_back({old, i});
  }
  return matches;
}

std::shared_ptr<CatalogVersion> ObjectCache::switch_version(Dataset& d, std::shared_ptr<CatalogVersion> next,
                                                            const std::vector<Match>& matches) {
  std::lock_guard lock(mutex_);
  std::shared_ptr<CatalogVersion> old = d.version();
  for (const Match& m : matches) {
    if (!old || old->state(m.old_entry) == kAbsent) continue;
    const CatalogEntry& e = next->catalog().entries[m.new_entry];
    if (old->catalog().entries[m.old_entry].mtime_ns != e.mtime_ns) {
      struct timespec t = {e.mtime_ns / 1000000000, e.mtime_ns % 1000000000};
      struct timespec times[2] = {t, t};
      ::utimensat(d.folder_fd(), oid_name(e.oid).c_str(), times, AT_SYMLINK_NOFOLLOW);
      ::utimensat(d.folder_fd(), (std::string(kLazyFolder) + "/" + oid_name(e.oid)).c_str(), times,
                  AT_SYMLINK_NOFOLLOW);
    }
    next->set_state(m.new_entry, old->state(m.old_entry));
  }
  if (d.sieve) {
    std::vector<uint32_t> to(old->catalog().entry_count, Sieve::kNone);
    for (const Match& m : matches)
      to[m.old_entry] = m.new_entry;
    d.sieve = d.sieve->renumbered(to, next->catalog().entry_count);
  }
  d.set_version(std::move(next));
  follow_pins(d);
  d.tables = Charge();
  d.evict_cursor = 0;
  return old;
}

void ObjectCache::remove_obsolete(Dataset& d, const CatalogVersion& old) {
  char path[4096];
  std::shared_ptr<CatalogVersion> v = d.version();
  if (!v) return;
  for (uint32_t i = 0; i < old.catalog().entry_count; ++i) {
    if (!old.catalog().entries[i].is_file() || old.state(i) == kAbsent) continue;
    long len = old.catalog().path_of(i, path, sizeof path);
    uint32_t entry = len < 0 ? kNoEntry : v->find_file({path, static_cast<size_t>(len)});
    if (entry != kNoEntry && v->catalog().entries[entry].oid == old.catalog().entries[i].oid) continue;
    std::lock_guard lock(mutex_);
    if (chunks_) chunk_bytes_ -= std::min(chunk_bytes_, chunks_->drop(d, old.catalog().entries[i].oid));
    if (old.state(i) != kResident) continue;
    remove_file(d, oid_name(old.catalog().entries[i].oid).c_str(), true,
                [&] { const_cast<CatalogVersion&>(old).set_state(i, kAbsent); });
  }
}

void ObjectCache::drop_version(Dataset& d) {
  std::lock_guard lock(mutex_);
  std::shared_ptr<CatalogVersion> v = d.version();
  if (!v) return;
  d.tables = Charge(meter_, version_bytes(v->catalog()));
  d.set_version(nullptr);
  d.sieve.reset();
  follow_pins(d);
}

void ObjectCache::note_use() {
  std::vector<std::shared_ptr<Dataset>> all;
  {
    std::lock_guard lock(mutex_);
    all = datasets_;
  }
  for (auto& d : all) {
    std::lock_guard lock(mutex_);
    if (!take_touches_locked(*d)) continue;
    d->in_use.count(d->folder_fd());  // what was closed makes place for what is opened
  }
}

bool ObjectCache::take_touches_locked(Dataset& d) {
  std::shared_ptr<CatalogVersion> v = d.version();
  if (!v) return false;
  bool any = v->take_touches([&](uint32_t entry) {
    if (d.sieve) d.sieve->visit(entry);
    if (v->state(entry) == kResident) d.in_use.opened(v->catalog().entries[entry].oid);
  });
  if (any) d.used_now();
  if (any) ::futimens(d.folder_fd(), nullptr);  // so that a restart knows the order
  return any;
}

}  // namespace larder
