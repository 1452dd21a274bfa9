#include "cached/cache/takeover.h"

#include <sys/stat.h>

#include <algorithm>

#include "cached/base/files.h"
#include "cached/base/log.h"
#include "cached/catalog/oid_name.h"
#include "larder/chunks.h"
#include "larder/names.h"

namespace larder {

// ---- what is on disk

void Takeover::count_folder(DatasetRecord& r) {
  uint64_t tables = 0;
  for (const int folder : r.dataset->file_folders())
    (void)for_each_name(folder, [&](const char* name) {
      struct stat st;
      ObjectId oid;
      if (::fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode)) return;
      const uint64_t bytes = on_disk(static_cast<uint64_t>(st.st_size));
      if (parse_oid(name, &oid))
        budget_.file_came(*r.accounts, bytes);
      else if (is_version_file(name))
        tables += bytes;
    });
  r.tables = Charge(meter_, tables);
}

static timespec to_timespec(int64_t ns) {
  timespec t = {ns / 1000000000, ns % 1000000000};
  if (t.tv_nsec < 0) t = {t.tv_sec - 1, t.tv_nsec + 1000000000};
  return t;
}

// A file found on disk: the right size, the daemon's own, read-only, and with a checksum to verify it by.
bool Takeover::check_file(const Dataset& d, int folder, const char* name, const CatalogEntry& e, const Sums& sums) {
  struct stat st;
  if (::fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) != 0) return false;
  if (!S_ISREG(st.st_mode) || st.st_uid != ::geteuid() || (st.st_mode & 0222) != 0 || st.st_nlink != 1) return false;
  if (static_cast<uint64_t>(st.st_size) != e.size || !sums.find(e.oid)) return false;
  const timespec t = to_timespec(e.mtime_ns), times[2] = {t, t};
  const bool same_time = st.st_mtim.tv_sec == t.tv_sec && st.st_mtim.tv_nsec == t.tv_nsec;
  if (!same_time && ::utimensat(folder, name, times, AT_SYMLINK_NOFOLLOW) != 0) return false;
  return inodes_.insert(inodes_.key_of(st), file_inode(e.oid), d.id(), InodeKind::kFile).ok();
}

std::vector<uint32_t> Takeover::files_by_oid(const Catalog& c) {
  std::vector<uint32_t> files;
  for (uint32_t i = 0; i < c.entry_count; ++i)
    if (c.entries[i].is_file()) files.push_back(i);
  std::sort(files.begin(), files.end(),
            [&](uint32_t a, uint32_t b) { return oid_less(c.entries[a].oid, c.entries[b].oid); });
  return files;
}

static bool is_ours(std::string_view name) {
  return name == kChecksumFile || name == kPinFile || name == kMirrorFolder || name == kLazyFolder ||
         is_version_file(name);
}

// Which entries have a good file. Object files that no entry names go.
std::vector<bool> Takeover::check_folder(DatasetRecord& r, const CatalogVersion& v, const std::vector<uint32_t>& files,
                                         const Sums& sums) {
  const Dataset& d = *r.dataset;
  const Catalog& c = v.catalog();
  std::vector<bool> present(c.entry_count, false);
  std::vector<std::pair<int, std::string>> bad;
  std::vector<std::string> unknown;
  auto look_at = [&](int folder, const char* name) {
    ObjectId oid;
    if (!parse_oid(name, &oid)) {
      if (folder == d.folder_fd() && !is_ours(name)) unknown.emplace_back(name);
      return;
    }
    auto it = std::lower_bound(files.begin(), files.end(), oid,
                               [&](uint32_t a, const ObjectId& id) { return oid_less(c.entries[a].oid, id); });
    const bool named = it != files.end() && c.entries[*it].oid == oid;
    if (named && !present[*it] && check_file(d, folder, name, c.entries[*it], sums))
      present[*it] = true;
    else
      bad.emplace_back(folder, name);
  };
  for (const int folder : d.file_folders())
    (void)for_each_name(folder, [&](const char* name) { look_at(folder, name); });
  for (const auto& [folder, name] : bad)
    files_.remove_file_of(r, folder, name.c_str(), true, [] {});
  if (!bad.empty())
    spdlog::info("{}: removed {} cache files that were incomplete or of an older version", d.label(), bad.size());
  for (const std::string& name : unknown)
    spdlog::warn("{}: {} in its cache folder is not Larder's; left alone", d.label(), shown(name));
  return present;
}

// ---- versions

void Takeover::adopt(DatasetRecord& r, std::shared_ptr<CatalogVersion> v, const std::vector<uint32_t>& files,
                     const Sums& sums) {
  const std::vector<bool> present = check_folder(r, *v, files, sums);
  for (uint32_t i = 0; i < v->catalog().entry_count; ++i) {
    const uint32_t should = present[i] ? kResident : kAbsent;
    if (v->state(i) != should) v->set_state(i, should);
  }
  if (chunks_) chunks_->adopt(*r.dataset, *v);
  r.dataset->set_version(std::move(v));
  r.sieve.reset();
  pinning_.follow(r);
  r.dataset->verified = std::find(present.begin(), present.end(), true) == present.end();
  r.tables = Charge();  // the version has its own
  r.evict_cursor = 0;
}

std::vector<EntryMatch> Takeover::match(const CatalogVersion& from, const CatalogVersion& to) {
  std::vector<EntryMatch> matches;
  const Catalog& c = to.catalog();
  char path[4096];
  for (uint32_t i = 0; i < c.entry_count; ++i) {
    const long len = c.entries[i].is_file() ? c.path_of(i, path, sizeof path) : -1;
    if (len < 0) continue;
    const uint32_t old = from.find_file({path, static_cast<size_t>(len)});
    if (old != kNoEntry && from.catalog().entries[old].oid == c.entries[i].oid) matches.push_back({old, i});
  }
  return matches;
}

// The store's time of an object changed, its content did not.
static void set_times(const Dataset& d, const CatalogEntry& e) {
  const timespec t = to_timespec(e.mtime_ns), times[2] = {t, t};
  const std::string name = oid_name(e.oid);
  for (const int folder : d.file_folders())
    ::utimensat(folder, name.c_str(), times, AT_SYMLINK_NOFOLLOW);
  ::utimensat(d.folder_fd(), (std::string(kLazyFolder) + "/" + name).c_str(), times, AT_SYMLINK_NOFOLLOW);
}

std::shared_ptr<CatalogVersion> Takeover::switch_version(DatasetRecord& r, std::shared_ptr<CatalogVersion> next,
                                                         const std::vector<EntryMatch>& matches) {
  Dataset& d = *r.dataset;
  std::shared_ptr<CatalogVersion> old = d.version();
  for (const EntryMatch& m : matches) {
    if (!old || old->state(m.old_entry) == kAbsent) continue;
    const CatalogEntry& e = next->catalog().entries[m.new_entry];
    if (old->catalog().entries[m.old_entry].mtime_ns != e.mtime_ns) set_times(d, e);
    next->set_state(m.new_entry, old->state(m.old_entry));
  }
  if (r.sieve) {
    std::vector<uint32_t> to(old->catalog().entry_count, Sieve::kNone);
    for (const EntryMatch& m : matches)
      to[m.old_entry] = m.new_entry;
    r.sieve = r.sieve->renumbered(to, next->catalog().entry_count);
  }
  d.set_version(std::move(next));
  pinning_.follow(r);
  r.tables = Charge();
  r.evict_cursor = 0;
  return old;
}

void Takeover::remove_obsolete(DatasetRecord& r, CatalogVersion& old, uint32_t entry) {
  const CatalogEntry& e = old.catalog().entries[entry];
  if (chunks_) chunks_->drop(*r.dataset, e.oid);
  if (old.state(entry) != kResident) return;
  files_.remove_file(r, oid_name(e.oid).c_str(), true, [&] { old.set_state(entry, kAbsent); });
}

void Takeover::drop_version(DatasetRecord& r) {
  std::shared_ptr<CatalogVersion> v = r.dataset->version();
  if (!v) return;
  r.tables = Charge(meter_, version_bytes(v->catalog()));
  r.dataset->set_version(nullptr);
  r.sieve.reset();
  pinning_.follow(r);
}

}  // namespace larder
